#!/usr/bin/env python3
"""Measure what Lamplighter keeps in Redis, for docs/sizing.md.

    tools/sizing.py [--apps 100] [--tenants 10000] [--binary bin/lamplighter] [--check docs/sizing.md]

Starts a redis-server and one process of its own, registers apps that are switched off, has every
tenant approve every app and reports one change of each tenant, so that each pair of app and tenant
waits. It prints the bytes that each kind of thing took. By default that is a million pairs. Then it
looks at the keys themselves, with MEMORY USAGE: those of an app, a tenant, an attempt, an incident,
a mail that waits, an idempotency key and an entry of the audit. With --check it compares what it
measured with the table of that document, and fails where they are more than 15 % and 8 bytes apart.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import urllib.request

import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from observe import Receiver, Server, free_port, wait_for  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKEN = "lmp_sizing_0123456789abcdef"


def call(method, url, body, kind, headers=()):
    request = urllib.request.Request(url, method=method, data=body)
    request.add_header("Authorization", "Bearer " + TOKEN)
    request.add_header("Content-Type", kind)
    for name, value in headers:
        request.add_header(name, value)
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
    parser.add_argument("--check", metavar="DOCUMENT")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lamplighter-sizing-") as directory:
        parts = measure(options, pathlib.Path(directory))
    if options.check:
        sys.exit(compare(parts, pathlib.Path(options.check).read_text()))


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
            # a mail server that is not there, so that mails wait; receivers and incidents on this machine
            "LAMPLIGHTER_SMTP_HOST": "127.0.0.1", "LAMPLIGHTER_SMTP_PORT": str(free_port()), "LAMPLIGHTER_SMTP_FROM": "lamplighter@example.com",
            "LAMPLIGHTER_GUARD_ALLOW_HTTP": "true", "LAMPLIGHTER_GUARD_ALLOW_CIDRS": "127.0.0.0/8", "LAMPLIGHTER_INCIDENT_OPEN_AFTER": "1s",
            "LAMPLIGHTER_REDIS_WAIVE_CHECKS": "persistence", "LAMPLIGHTER_LOG_LEVEL": "error",
        }
        service = subprocess.Popen([options.binary, "serve"], env=environment)
        wait_for("the service", f"http://127.0.0.1:{ops}/readyz")
        steps(options, redis, f"http://127.0.0.1:{api}/v1")
        return parts(options, redis, f"http://127.0.0.1:{api}/v1")
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



def redis_cli(port, *command):
    return subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True, check=True).stdout.strip()


def each(port, key, count=None):
    """Bytes of a key for each of its members, all of them looked at."""
    size = int(redis_cli(port, "memory", "usage", key, "samples", "0") or 0)
    length = {"hash": "hlen", "zset": "zcard", "list": "llen", "stream": "xlen", "set": "scard"}.get(redis_cli(port, "type", key))
    return size / (count or int(redis_cli(port, length, key)))


def mean(port, pattern):
    """Mean bytes of the keys of a pattern; at most 200 of them are looked at."""
    found = redis_cli(port, "--scan", "--pattern", pattern).splitlines()[:200]
    if not found:
        sys.exit(f"sizing: no key is like {pattern}")
    return sum(int(redis_cli(port, "memory", "usage", key, "samples", "0")) for key in found) / len(found)


def until(what, done, seconds=120):
    deadline = time.time() + seconds
    while not done():
        if time.time() > deadline:
            sys.exit(f"sizing: {what} did not come within {seconds} s")
        time.sleep(0.5)


def parts(options, redis, base):
    """What single things take, by the name they have in docs/sizing.md."""
    receiver = Server(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    told = f"http://127.0.0.1:{receiver.server_address[1]}/ok"
    tenants = [f"Cust{10000 + n}" for n in range(min(options.tenants, 1000))]
    for app, url in (("told", told), ("refused", f"http://127.0.0.1:{free_port()}/")):
        doc = {"name": "App", "technical_contact": {"name": "Kim", "email": "kim@example.com"}, "endpoints": {"state_change": {"url": url, "enabled": True}}}
        call("PUT", f"{base}/apps/{app}", json.dumps(doc).encode(), "application/json")
        call("PUT", f"{base}/apps/{app}/approvals", lines({"tenant": t} for t in tenants), "application/x-ndjson")
    for n, tenant in enumerate(tenants[:100]):
        body = json.dumps({"tenant": tenant, "change_type": "resume"}).encode()
        call("POST", f"{base}/state-changes", body, "application/json", [("Idempotency-Key", f"6f0f3a3c-5b1e-4f6e-9a55-{n:012d}")])
    until("an incident and its mail", lambda: int(redis_cli(redis, "hlen", "lamplighter:{refused}:outbox") or 0) > 0)
    until("its attempts", lambda: int(redis_cli(redis, "llen", "lamplighter:{told}:deliveries") or 0) >= len(tenants))
    app = f"{0:032x}"
    measured = {
        "approval, at the app": each(redis, "lamplighter:{%s}:tenants" % app),
        "approval, at the tenant": mean(redis, "lamplighter:{Cust1*}:approvals") / (options.apps + 2),
        "waiting notification": each(redis, "lamplighter:{%s}:waiting" % app),
        "its turn": each(redis, "lamplighter:{%s}:due" % app),
        "tenant's record": mean(redis, "lamplighter:{Cust1*}:record"),
        "kept change": mean(redis, "lamplighter:{Cust1*}:changes"),
        "app": each(redis, "lamplighter:{config}:apps") + each(redis, "lamplighter:{config}:secrets"),
        "attempt": each(redis, "lamplighter:{told}:deliveries"),
        "incident": each(redis, "lamplighter:{refused}:incidents"),
        "mail that waits": each(redis, "lamplighter:{refused}:outbox"),
        "idempotency key of a change": mean(redis, "lamplighter:{Cust1*}:answer*"),
        "entry of the audit": each(redis, "lamplighter:{config}:audit"),
        "accepted change in the audit": each(redis, "lamplighter:{config}:audit_changes"),
    }
    for name, size in measured.items():
        print(f"{name:<28} {size:>8.0f} bytes", flush=True)
    return measured


def compare(measured, document):
    """Counts the rows of the document, | name | bytes | where |, that are not what was measured."""
    wrong = 0
    for name, size in measured.items():
        row = re.search(rf"^\| {re.escape(name)} \| ([0-9,]+) \|", document, re.MULTILINE)
        said = int(row.group(1).replace(",", "")) if row else None
        if said is None or abs(said - size) > 0.15 * size + 8:
            wrong += 1
            print(f"sizing: {name}: measured {size:.0f}, the document says {said}")
    print(f"sizing: {len(measured) - wrong} of {len(measured)} are as the document says")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
