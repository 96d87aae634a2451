#!/usr/bin/env python3
"""Measure what Lamplighter keeps in Redis, for docs/sizing.md.

    tools/sizing.py [--apps 100] [--tenants 10000] [--binary bin/lamplighter]

Starts a redis-server and one process of its own, registers apps that are switched off, has every
tenant approve every app and reports one change of each tenant, so that each pair of app and tenant
waits. It prints the bytes that each kind of thing took. By default that is a million pairs.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from observe import free_port, wait_for  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKEN = "lmp_sizing_0123456789abcdef"


def call(method, url, body, kind):
    request = urllib.request.Request(url, method=method, data=body)
    request.add_header("Authorization", "Bearer " + TOKEN)
    request.add_header("Content-Type", kind)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read()


def used(port):
    text = subprocess.run(["redis-cli", "-p", str(port), "info", "memory"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"used_memory:(\d+)", text).group(1))


def settle(port):
    """Wait until memory does not grow any more: fan-outs go on after the answer."""
    last, calm = used(port), 0
    while calm < 5:
        time.sleep(1)
        now = used(port)
        calm = calm + 1 if abs(now - last) < 200_000 else 0
        last = now
    return last


def lines(items):
    return "".join(json.dumps(item) + "\n" for item in items).encode()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", type=int, default=100)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--binary", default=str(ROOT / "bin" / "lamplighter"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lamplighter-sizing-") as directory:
        measure(options, pathlib.Path(directory))


def measure(options, directory):
    redis, api, ops = free_port(), free_port(), free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(redis), "--save", "", "--appendonly", "no", "--dir", directory],
        stdout=subprocess.DEVNULL)
    service = None
    try:
        subprocess.run([options.binary, "keys", "generate", "--out", directory / "rsa.pem"], check=True, stdout=subprocess.DEVNULL)
        key = subprocess.run([options.binary, "keys", "encryption"], check=True, capture_output=True, text=True).stdout.strip()
        environment = {
            **os.environ, "LAMPLIGHTER_ENVIRONMENT": "sod", "LAMPLIGHTER_REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "LAMPLIGHTER_LISTEN": f"127.0.0.1:{api}", "LAMPLIGHTER_OPS_LISTEN": f"127.0.0.1:{ops}", "LAMPLIGHTER_PUBLIC_URL": "http://127.0.0.1",
            "LAMPLIGHTER_SIGNING_KEYS": str(directory / "rsa.pem"), "LAMPLIGHTER_ENCRYPTION_KEY": key, "LAMPLIGHTER_BOOTSTRAP_TOKEN": TOKEN,
            "LAMPLIGHTER_SMTP_DISABLED": "true", "LAMPLIGHTER_REDIS_WAIVE_CHECKS": "persistence", "LAMPLIGHTER_LOG_LEVEL": "error",
        }
        service = subprocess.Popen([options.binary, "serve"], env=environment)
        wait_for("the service", f"http://127.0.0.1:{ops}/readyz")
        steps(options, redis, f"http://127.0.0.1:{api}/v1")
    finally:
        for child in (service, server):
            if child:
                child.terminate()
                child.wait(60)


def steps(options, redis, base):
    pairs = options.apps * options.tenants
    before = settle(redis)

    def step(what, count):
        nonlocal before
        now = settle(redis)
        print(f"{what:<28} {count:>9}  {(now - before) / 1e6:>9.1f} MB  {(now - before) / count:>8.0f} bytes each", flush=True)
        before = now

    for n in range(options.apps):
        app = {"name": f"App {n}", "technical_contact": {"name": "Kim", "email": "kim@example.com"},
               "endpoints": {"state_change": {"url": "https://93.184.216.34/hook", "enabled": False}}}
        call("PUT", f"{base}/apps/{n:032x}", json.dumps(app).encode(), "application/json")
    step("apps", options.apps)
    tenants = [f"Cust{10000 + n}" for n in range(options.tenants)]
    batches = [tenants[i:i + 1000] for i in range(0, len(tenants), 1000)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        def approve(job):
            app, batch = job
            call("PUT", f"{base}/apps/{app:032x}/approvals", lines({"tenant": t} for t in batch), "application/x-ndjson")
        list(pool.map(approve, [(app, batch) for app in range(options.apps) for batch in batches]))
        step("approvals (pairs)", pairs)

        def report(batch):
            body = lines({"tenant": t, "change_type": "suspend", "version_name": "Release_10.3.8_2024.08.30-01", "file_version": "10.3.8.2024"} for t in batch)
            call("POST", f"{base}/state-changes", body, "application/x-ndjson")
        list(pool.map(report, batches))
    deadline = time.time() + 900
    while time.time() < deadline:
        last = json.loads(call("GET", f"{base}/apps/{options.apps - 1:032x}/mailbox", None, "application/json"))
        first = json.loads(call("GET", f"{base}/apps/{0:032x}/mailbox", None, "application/json"))
        if last["waiting"] == first["waiting"] == options.tenants:
            break
        time.sleep(2)
    step("tenants, and all pairs wait", pairs)
    print(f"{'all of it':<28} {pairs:>9}  {used(redis) / 1e6:>9.1f} MB", flush=True)


if __name__ == "__main__":
    main()
