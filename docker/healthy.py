#!/usr/bin/env python3
"""Exit 0 if every address in HEALTH_URLS (separated by blanks) answers: the health check of all services."""

import os
import sys
import urllib.request

for url in os.environ["HEALTH_URLS"].split():
    try:
        urllib.request.urlopen(url, timeout=5).read()
    except OSError as error:
        sys.exit(f"{url}: {error}")
