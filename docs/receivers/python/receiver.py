"""A receiver of state changes in Python (3.9 or newer).

    pip install "pyjwt[crypto]"      # Debian: apt-get install python3-jwt python3-cryptography
    DISCOVERY_URL=… ISSUER=… CLIENT_ID=… WEBHOOK_SECRET=whsec_… python3 receiver.py

PORT (0 picks a free one) and INBOX_FILE are optional. It logs one JSON line per event.
"""

import base64
import hashlib
import hmac
import json
import os
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

DISCOVERY_URL = os.environ["DISCOVERY_URL"]
ISSUER = os.environ["ISSUER"]
CLIENT_ID = os.environ["CLIENT_ID"]
WEBHOOK_SECRET = os.environ["WEBHOOK_SECRET"]
if not (ISSUER and CLIENT_ID and WEBHOOK_SECRET):
    raise SystemExit("ISSUER, CLIENT_ID and WEBHOOK_SECRET must not be empty")
PORT = int(os.environ.get("PORT", "0"))
INBOX_FILE = os.environ.get("INBOX_FILE", "inbox.json")
MAX_BODY = 64 * 1024

output = threading.Lock()


def log(event, **fields):
    with output:
        print(json.dumps({"event": event, **fields}), flush=True)


class Refused(Exception):
    def __init__(self, status, part, why):
        super().__init__(why)
        self.status, self.part, self.why = status, part, why


# region signature
SECRET = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
TOLERANCE = 5 * 60  # seconds


def verify_signature(body, headers):
    """body must be the bytes as they arrived, before any parsing."""
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()) or abs(time.time() - int(timestamp)) > TOLERANCE:
        raise Refused(401, "signature", "webhook-timestamp is missing or not of now")
    mac = hmac.new(SECRET, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(mac.digest())
    # While the secret is rotated there are several signatures: one match is enough.
    for signature in headers.get("webhook-signature", "").split(" "):
        if hmac.compare_digest(signature.encode(), expected):
            return
    raise Refused(401, "signature", "no signature matches")
# endregion


# region token
class Keys:
    """The sender's public keys, found by discovery; fetched again for an unknown kid."""

    def __init__(self):
        self.lock = threading.Lock()
        self.client = None

    def find(self, kid):
        with self.lock:
            if self.client is None:
                with urllib.request.urlopen(DISCOVERY_URL, timeout=3) as answer:
                    self.client = jwt.PyJWKClient(json.load(answer)["jwks_uri"])
            for refresh in (False, True):
                for key in self.client.get_signing_keys(refresh):
                    if key.key_id == kid:
                        return key.key
        raise Refused(401, "token", "no published key has this kid")


keys = Keys()


def verify_token(token, tenant):
    try:
        kid = jwt.get_unverified_header(token)["kid"]
    except (jwt.PyJWTError, KeyError):
        raise Refused(401, "token", "Token names no key") from None
    try:
        key = keys.find(kid)
    except (OSError, ValueError, KeyError, jwt.PyJWTError) as err:
        # Our fault, not the sender's: ask for another attempt.
        raise Refused(503, "keys", str(err)) from err
    try:
        claims = jwt.decode(
            token, key, algorithms=["RS256", "ES256"], issuer=ISSUER, audience=f"spn:{CLIENT_ID}",
            leeway=30, options={"require": ["exp", "nbf", "iss", "aud"]},
        )
    except (jwt.PyJWTError, TypeError, ValueError) as err:
        raise Refused(401, "token", str(err)) from err
    if claims.get("http://schemes.superoffice.net/identity/ctx") != tenant:
        raise Refused(401, "token", "Token is for another tenant")
# endregion


# region inbox
class Inbox:
    """The sequences received and the work to be done. A file stands in for your database:
    one transaction must hold both the check and the insert."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.more = threading.Event()
        self.state = {"tenants": {}, "work": []}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.state = json.load(file)

    def save(self, state):
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)
        self.state = state  # what could not be stored was not accepted

    def accept(self, change):
        """Only a smaller sequence is outdated. An equal one under a new id is the state sent
        again: accept it."""
        with self.lock:
            heard = self.state["tenants"].get(change["tenant"], {"sequence": -1, "ids": []})
            if change["sequence"] < heard["sequence"]:
                return "older"
            same = change["sequence"] == heard["sequence"]
            if same and change["webhook_id"] in heard["ids"]:
                return "duplicate"
            ids = (heard["ids"] if same else []) + [change["webhook_id"]]
            heard = {"sequence": change["sequence"], "ids": ids[-50:]}
            self.save({
                "tenants": {**self.state["tenants"], change["tenant"]: heard},
                "work": [*self.state["work"], change],
            })
        self.more.set()
        return "new"

    def first(self):
        """The oldest change to be worked on; waits for one."""
        while True:
            with self.lock:
                if self.state["work"]:
                    return self.state["work"][0]
                self.more.clear()
            self.more.wait()

    def done(self):
        with self.lock:
            self.save({**self.state, "work": self.state["work"][1:]})
# endregion


inbox = Inbox(INBOX_FILE)


# region receive
class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self):
        try:
            change = self.receive()
            verdict = self.store(change)
        except Refused as err:
            self.answer(err.status, err.why)
            log("refused", status=err.status, part=err.part, why=err.why)
            return
        self.answer(204)  # stored: the sender need not wait for the work
        log("accepted" if verdict == "new" else "ignored", why=verdict, **change)

    def store(self, change):
        try:
            return inbox.accept(change)
        except OSError as err:
            raise Refused(500, "receiver", str(err)) from err

    def receive(self):
        body = self.body()
        verify_signature(body, self.headers)
        try:
            n = json.loads(body)
            change = {
                "webhook_id": self.headers["webhook-id"],
                "tenant": n["ContextIdentifier"],
                "change_type": int(n["ChangeType"]),
                "sequence": int(self.headers["x-state-sequence"]),
                "public_endpoint": n.get("PublicEndpoint"),
            }
            token = n["Token"]
        except (ValueError, TypeError, KeyError) as err:
            raise Refused(400, "body", f"not a state change: {err}") from err
        verify_token(token, change["tenant"])
        return change
# endregion

    def body(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            raise Refused(413, "body", "too large, or of unknown length")
        return self.rfile.read(int(length))

    def answer(self, status, text=""):
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "30")
        if status != 204:
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if status != 204:
            self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


# region work
def handle(change):
    """Put your own calls here. A crash between handle and done repeats the last one, so make it
    idempotent."""
    kind = change["change_type"]
    if kind in (0, 2):  # Upgrade, Suspend
        return "pause"
    if kind == 1:  # BackupRestored
        return "resynchronize"
    if kind == 3:  # Resume
        return "resume"
    if kind == 4:  # Delete
        return "forget"
    if kind == 5:  # Move
        return f"use {change['public_endpoint']}"
    return "nothing"  # a type of the future


def work():
    while True:
        change = inbox.first()
        try:
            action = handle(change)
            inbox.done()
        except Exception as err:  # whatever it is, the change stays to be done
            log("postponed", why=str(err))
            time.sleep(30)
            continue
        log("handled", action=action, **change)
# endregion


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
    log("listening", port=server.server_port)
    threading.Thread(target=work, daemon=True).start()
    server.serve_forever()
