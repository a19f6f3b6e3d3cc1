#!/usr/bin/env python3
"""Run one of the image's jobs on the Ray cluster, follow its log and end with its own exit status.

``ray job submit`` ends with 1 whatever a job says, and a night's status says what happened (docs/operations.md).
"""

import asyncio
import os
import shlex
import sys
import time

from ray.job_submission import JobSubmissionClient


async def follow(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


client = JobSubmissionClient(os.environ.get("RAY_JOBS", "http://ray-head:8265"))
job = client.submit_job(entrypoint=shlex.join(["python3", *sys.argv[1:]]))
asyncio.run(follow(client, job))
while not (info := client.get_job_info(job)).status.is_terminal():
    time.sleep(0.5)
if info.driver_exit_code is None:
    sys.exit(f"job {job} {info.status.value.lower()}: {info.message}")
sys.exit(info.driver_exit_code)
