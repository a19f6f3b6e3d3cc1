#!/bin/sh
# SeaweedFS as one process with its S3 gateway, and the bucket m2m in it. Without keys it would let everybody in.
set -eu
: "${AWS_ACCESS_KEY_ID:?has no value: make cluster-secrets draws keys}"
: "${AWS_SECRET_ACCESS_KEY:?has no value: make cluster-secrets draws keys}"
until echo "s3.bucket.create -name m2m" | weed shell -master=localhost:9333 >/dev/null 2>&1; do sleep 1; done &
exec weed server -s3 -dir=/data -ip=localhost -ip.bind=0.0.0.0 -volume.max=0 -master.volumeSizeLimitMB=1024 \
  -master.telemetry=false -s3.port=8333 -s3.port.https=0 -s3.port.iceberg=0
