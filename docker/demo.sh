#!/usr/bin/env bash
# The whole pipeline on the compose cluster that is up: features by spark-submit, the rest as Ray jobs.
# Arguments go to every job (`--set section.key=value`). COMPOSE is the compose command, OUT the run's folder.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -f .env ]; then set -a && . ./.env && set +a; fi
read -ra compose <<<"${COMPOSE:-docker compose}"
config=(--config /configs/complete_journey.toml --set "run.out=${OUT:=/data/demo}" "$@")
# One training worker and one scoring actor on each Ray worker.
ray=(--set cluster.workers=2 --set predict.actors=2 --set "cluster.cpus_per_worker=${RAY_WORKER_CPUS:-2}")
day=2017-12-31
wait_seconds=120

step() { printf '\n== %(%T)T %s\n' -1 "$1"; }
run() { "${compose[@]}" --profile jobs run --rm --no-deps -T "$@"; }

step "waiting for the cluster"
for service in spark-master spark-worker-1 spark-worker-2 ray-head ray-worker-1 ray-worker-2; do
  deadline=$((SECONDS + wait_seconds))
  until "${compose[@]}" exec -T "$service" healthy >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || {
      echo "error: $service is not healthy after $wait_seconds s: start the cluster with" \
        "'${compose[*]} up -d' and look at '${compose[*]} logs $service'" >&2
      exit 2
    }
    sleep 2
  done
done

step "raw tables (once)"
OUT="$OUT" run raw-tables
step "dataset, on Spark"
run spark-job /app/jobs/build_dataset.py "${config[@]}"
step "training, on Ray"
run ray-job /app/jobs/train.py "${config[@]}" "${ray[@]}"
step "evaluation, on Ray"
run ray-job /app/jobs/evaluate.py "${config[@]}" "${ray[@]}"
step "features of $day, on Spark"
run spark-job /app/jobs/build_dataset.py "${config[@]}" --date "$day"
step "the night of $day, on Ray"
alert=4 # all is published, and a check found something to look at
run ray-job /app/jobs/daily.py "${config[@]}" "${ray[@]}" --date "$day" --features-published || [ $? -eq $alert ]
step "report"
run ray-job /app/jobs/report.py "${config[@]}"

mkdir -p out/cluster
"${compose[@]}" exec -T ray-head tar -C "$OUT" -c report | tar -C out/cluster -x
cat <<END

  out/cluster/report/index.html   the report, copied from the cluster
  $OUT in the volume 'data'       dataset, model, evaluation, features, predictions, lists, daily
  http://localhost:8080           Spark master
  http://localhost:8265           Ray dashboard
END
