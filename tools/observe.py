#!/usr/bin/env python3
"""Run Lamplighter under load with a real Redis, mail server and Prometheus, and
check that every query of the dashboard returns data.

    tools/observe.py [--minutes 3] [--keep] [--binary bin/lamplighter]

Needs redis-server, prometheus and .tools/mailpit (make tools). Everything runs
on free ports of this machine and in a temporary directory, which is removed at
the end. With --keep it goes on after the check, until interrupted, and prints
where Prometheus listens: point a Grafana at it and import the dashboard.

The load has what a dashboard must show: apps that are well, slow, failing in
different ways, down for a while, switched off, and one we are late for; changes
that are refused and repeated; mails; two processes that share the work.
"""

import argparse
import base64
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKEN = "lmp_observe_0123456789abcdef"
TENANTS = [f"Cust{10000 + i}" for i in range(200)]
# name: path of the receiver it posts to
APPS = {
    "aurora-erp": "/ok", "bergen-sync": "/ok", "cedar-crm": "/ok", "delta-books": "/ok", "elm-quotes": "/ok", "fjord-mail": "/ok",
    "grove-slow": "/slow", "harbor-late": "/late", "iris-broken": "/500", "juniper-locked": "/401", "krone-picky": "/picky",
    "lark-limited": "/429", "maple-down": "/down", "nordic-gone": "/410", "opal-off": "/ok",
}
# app: its quote connector. Anything that speaks SOAP is well.
QUOTE_CONNECTORS = {"elm-quotes": "/soap", "cedar-crm": "/soap", "iris-broken": "/404"}
FAULT = (b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode>'
         b"<faultstring>no such connection</faultstring></s:Fault></s:Body></s:Envelope>")
CHANGES = ["upgrade", "suspend", "resume", "resume", "backup_restored", "move"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Partners' endpoints; the path says how each behaves."""

    protocol_version = "HTTP/1.1"
    down_until = 0.0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, path, answer = 200, self.path, b""
        if path == "/slow":
            time.sleep(random.uniform(0.2, 1.2))
        elif path == "/late":
            time.sleep(random.uniform(2, 3))
        elif path == "/picky" and int(json.loads(body)["ContextIdentifier"][4:]) % 12 == 0:
            status = 422
        elif path == "/down":
            if time.time() < Receiver.down_until:
                self.close_connection = True
                self.connection.close()
                return
        elif path == "/soap":
            status, answer = 500, FAULT
        elif path[1:].isdigit() and (path != "/429" or random.random() < 0.5):
            status = int(path[1:])
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "3")
        if answer:
            self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # the endpoint that is down hangs up


def call(method, url, body=None, kind="application/json", headers=()):
    request = urllib.request.Request(url, method=method, data=body)
    request.add_header("Authorization", "Bearer " + TOKEN)
    request.add_header("Content-Type", kind)
    for name, value in headers:
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as err:
        return err.code, err.read()


def must(method, url, body, kind="application/json"):
    status, answer = call(method, url, body, kind)
    if status >= 300:
        sys.exit(f"observe: {method} {url} answered {status}: {answer.decode()}")


def wait_for(what, url, seconds=30):
    deadline = time.time() + seconds
    while time.time() < deadline:
        try:
            if call("GET", url)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"observe: {what} did not answer at {url} within {seconds} s")


class Scene:
    def __init__(self, directory, binary):
        self.dir, self.binary = directory, binary
        self.children = []
        names = ["redis", "smtp", "mailbox", "prometheus", "receiver", "api1", "ops1", "api2", "ops2"]
        self.port = {name: free_port() for name in names}
        self.api = self.url("api1")
        self.prometheus = self.url("prometheus")

    def url(self, name):
        return f"http://127.0.0.1:{self.port[name]}"

    def start(self, name, *command, env=None):
        log = open(self.dir / f"{name}.log", "wb")
        child = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.dir, env={**os.environ, **(env or {})})
        self.children.append(child)
        return child

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()

    def up(self):
        port = self.port
        (self.dir / "redis").mkdir()
        self.start("redis", "redis-server", "--bind", "127.0.0.1", "--port", str(port["redis"]), "--dir", str(self.dir / "redis"), "--appendonly", "yes",
                   "--maxmemory-policy", "noeviction")
        mailpit = shutil.which("mailpit") or str(ROOT / ".tools/mailpit")
        self.start("mailpit", mailpit, "--listen", f"127.0.0.1:{port['mailbox']}", "--smtp", f"127.0.0.1:{port['smtp']}", "--quiet")
        receiver = Server(("127.0.0.1", port["receiver"]), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        for alg in ("RS256", "ES256"):
            subprocess.run([self.binary, "keys", "generate", "--alg", alg, "--starts-in", "0s", "--out", str(self.dir / f"{alg}.pem")],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        env = {
            "LAMPLIGHTER_BOOTSTRAP_TOKEN": TOKEN, "LAMPLIGHTER_ENCRYPTION_KEY": base64.b64encode(os.urandom(32)).decode(),
            "LAMPLIGHTER_REDIS_URL": f"redis://127.0.0.1:{port['redis']}/0", "LAMPLIGHTER_PUBLIC_URL": self.api,
            "LAMPLIGHTER_SIGNING_KEYS": f"{self.dir / 'RS256.pem'},{self.dir / 'ES256.pem'}",
            "LAMPLIGHTER_SMTP_HOST": "127.0.0.1", "LAMPLIGHTER_SMTP_PORT": str(port["smtp"]), "LAMPLIGHTER_SMTP_TLS": "none",
            "LAMPLIGHTER_SMTP_FROM": "lamplighter@example.com",
            "LAMPLIGHTER_GUARD_ALLOW_HTTP": "true", "LAMPLIGHTER_GUARD_ALLOW_CIDRS": "127.0.0.0/8",
            "LAMPLIGHTER_PROBE_INTERVAL": "10s", "LAMPLIGHTER_INCIDENT_OPEN_AFTER": "20s", "LAMPLIGHTER_INCIDENT_RECOVER_AFTER": "10s", "LAMPLIGHTER_BREAKER_OPEN_FOR_MAX": "10s",
        }
        for n in ("1", "2"):
            self.start("lamplighter" + n, self.binary, "serve", env={
                **env, "LAMPLIGHTER_LISTEN": f"127.0.0.1:{port['api' + n]}", "LAMPLIGHTER_OPS_LISTEN": f"127.0.0.1:{port['ops' + n]}"})
            wait_for("lamplighter " + n, self.url("ops" + n) + "/readyz")
        targets = [f"127.0.0.1:{port[name]}" for name in ("ops1", "ops2")]
        (self.dir / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "3s", "evaluation_interval": "15s"},
            "rule_files": [str(ROOT / "dashboards/alerts.yaml")],
            "scrape_configs": [{"job_name": "lamplighter", "static_configs": [{"targets": targets}]}],
        }))
        self.start("prometheus", "prometheus", "--config.file", str(self.dir / "prometheus.yml"), "--storage.tsdb.path", str(self.dir / "tsdb"),
                   "--web.listen-address", f"127.0.0.1:{port['prometheus']}")
        wait_for("prometheus", self.prometheus + "/-/ready")

    def register(self):
        approvals = "".join(json.dumps({"tenant": t}) + "\n" for t in TENANTS).encode()
        for app, path in APPS.items():
            contact = {"name": "Kim", "email": f"kim@{app}.example"}
            doc = {"name": app.replace("-", " ").title(), "technical_contact": contact}
            doc["token_algorithm"] = "RS256" if app == "aurora-erp" else "ES256"
            doc["endpoints"] = {"state_change": {
                "url": self.url("receiver") + path, "enabled": app != "opal-off", "send_error_emails": app != "lark-limited"}}
            must("PUT", f"{self.api}/v1/apps/{app}", json.dumps(doc).encode())
            must("PUT", f"{self.api}/v1/apps/{app}/approvals", approvals, "application/x-ndjson")
        for app, path in QUOTE_CONNECTORS.items():
            url = f"{self.api}/v1/apps/{app}/endpoints/quote_connector"
            must("PATCH", url + "?force=true", json.dumps({"url": self.url("receiver") + path, "enabled": True}).encode())
        # one that people switched off again
        url = f"{self.api}/v1/apps/bergen-sync/endpoints/quote_connector"
        must("PATCH", url + "?force=true", json.dumps({"url": self.url("receiver") + "/soap", "enabled": True}).encode())
        must("PATCH", url, json.dumps({"enabled": False}).encode())

    def load(self, seconds):
        """Reports about 12 changes a second, with some repeats and mistakes among them."""
        Receiver.down_until = time.time() + seconds * 0.6
        end, step = time.time() + seconds, 0
        while time.time() < end:
            step += 1
            lines = [self.change() for _ in range(12)]
            if step % 5 == 0:
                lines[3] = '{"tenant":"Cust10001","change_type":"explode"}'
            body, key = "\n".join(lines).encode(), [("Idempotency-Key", f"observe-{uuid.uuid4()}")]
            for _ in range(2 if step % 4 == 0 else 1):
                call("POST", self.api + "/v1/state-changes", body, "application/x-ndjson", key)
            if step % 20 == 0:  # an address that is refused when it is set, and counted
                call("PUT", f"{self.api}/v1/apps/aurora-erp/endpoints/mirroring", b'{"url":"https://169.254.169.254/","enabled":true}')
            call("GET", f"{self.url('api2')}/api/state/{random.choice(TENANTS)}")
            call("GET", f"{self.api}/v1/config")
            time.sleep(1)

    def change(self):
        kind = random.choice(CHANGES)
        doc = {"tenant": random.choice(TENANTS), "change_type": kind, "version_name": "Release 11.1 R02"}
        if kind == "move":
            doc["public_endpoint"] = f"online{random.randint(1, 4)}.example.com"
        return json.dumps(doc)


def expand(expr, dashboard, seconds):
    values = {"__rate_interval": "1m", "__interval": "5s", "__range": f"{seconds}s", "__range_s": str(seconds)}
    for variable in dashboard["templating"]["list"]:
        values[variable["name"]] = variable.get("allValue") or ".+"
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: values[m.group(1) or m.group(2)], expr)


def check(prometheus, seconds):
    """Runs every query of every dashboard; returns how many there are and how many are empty."""
    total = empty = 0
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                expr = expand(target["expr"], dashboard, seconds)
                now = int(time.time())
                query = {"query": expr, "start": now - seconds, "end": now, "step": 5}
                path = "query_range"
                if target.get("instant"):
                    query, path = {"query": expr, "time": now}, "query"
                status, body = call("GET", f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}")
                answer = json.loads(body)
                total += 1
                if status != 200 or not has_data(answer["data"]["result"]):
                    empty += 1
                    print(f"observe: no data: {file.name}: {panel['title']} {target['refId']}: {answer.get('error', expr)}")
    return total, empty


def has_data(series):
    samples = [sample for s in series for sample in s.get("values", [s.get("value")])]
    return any(value != "NaN" for _, value in samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--keep", action="store_true", help="go on with the load after the check, until interrupted")
    parser.add_argument("--binary", default=str(ROOT / "bin/lamplighter"))
    args = parser.parse_args()
    seconds = int(args.minutes * 60)
    random.seed(1)
    binary = str(pathlib.Path(args.binary).resolve())
    directory = pathlib.Path(tempfile.mkdtemp(prefix="lamplighter-observe-"))
    scene = Scene(directory, binary)
    empty = 1
    try:
        scene.up()
        scene.register()
        print(f"observe: prometheus {scene.prometheus}  api {scene.api}  ops {scene.url('ops1')}  mails {scene.url('mailbox')}", flush=True)
        scene.load(seconds)
        total, empty = check(scene.prometheus, seconds)
        print(f"observe: {total} queries, {total - empty} with data", flush=True)
        while args.keep:
            scene.load(seconds)
    except KeyboardInterrupt:
        pass
    finally:
        scene.stop()
        shutil.rmtree(directory)
    sys.exit(1 if empty else 0)


if __name__ == "__main__":
    main()
