"""A mirroring service as a partner would write it from the platform's documentation, with none of
this project's code: IMirroringClientService, of which it knows Authenticate.

The last part of the path chooses how it behaves: "ok" as documented, everything else in one of the
ways in which services go wrong. It prints one JSON line per event; the first names its port and the
public keys of the app, in the RSA XML form that the platform hands to partners.
"""

import base64
import json
import os
import re
import socket
import sys
import threading
import time
import urllib.request
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
MIRROR = "http://www.superoffice.com/online/mirroring/0.1"
ACTION = f'"{MIRROR}/IMirroringClientService/Authenticate"'
CTX = "http://schemes.superoffice.net/identity/ctx"

DISCOVERY_URL = os.environ["DISCOVERY_URL"]
ISSUER = os.environ["ISSUER"]
CLIENT_ID = os.environ["CLIENT_ID"]

output = threading.Lock()
seen = []  # nonces, oldest first
keys = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("old", "new", "foreign")}


def log(event, **fields):
    with output:
        print(json.dumps({"event": event, **fields}), flush=True)


def rsa_xml(private):
    numbers = private.public_key().public_numbers()

    def b64(n):
        return base64.b64encode(n.to_bytes((n.bit_length() + 7) // 8, "big")).decode()

    return f"<RSAKeyValue><Modulus>{b64(numbers.n)}</Modulus><Exponent>{b64(numbers.e)}</Exponent></RSAKeyValue>"


def validate(token):
    """Is the token the platform's, of now, and for this app? The keys are found as documented."""
    with urllib.request.urlopen(DISCOVERY_URL, timeout=10) as answer:
        jwks_uri = json.load(answer)["jwks_uri"]
    key = jwt.PyJWKClient(jwks_uri).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key.key, algorithms=["RS256"], audience="spn:" + CLIENT_ID, issuer=ISSUER,
                        options={"require": ["exp", "nbf", "aud", "iss", "sub"]})
    if claims["sub"] != claims[CTX]:
        raise ValueError("sub and ctx differ")
    if not re.fullmatch("[0-9A-F]{32}", claims["nonce"]):
        raise ValueError("the nonce is not 32 upper-case hex digits")
    if claims["exp"] - claims["nbf"] != 360:
        raise ValueError("the token does not live six minutes")
    return claims


def sign(nonce, at, private):
    text = nonce + "." + at.strftime("%Y%m%d%H%M")
    signature = private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return text + "." + base64.b64encode(signature).decode()


def envelope(body):
    return f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{SOAP}"><s:Body>{body}</s:Body></s:Envelope>'.encode()


def response(successful, token="", message=""):
    return envelope(f'<AuthenticateResponse xmlns="{MIRROR}"><IsSuccessful>{str(successful).lower()}</IsSuccessful>'
                    f"<ErrorMessage>{message}</ErrorMessage><SignedApplicationToken>{token}</SignedApplicationToken>"
                    "<SupportedInterfaces>1</SupportedInterfaces></AuthenticateResponse>")


FAULT = envelope("<s:Fault><faultcode>s:Server</faultcode><faultstring>Object reference not set</faultstring></s:Fault>")
HELP_PAGE = b"<html><body>You have created a service.</body></html>"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):  # the help page shows whatever is broken behind it
        self.reply(200, HELP_PAGE, "text/html")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mode = self.path.rsplit("/", 1)[-1]
        broken = getattr(self, "broken_" + mode.replace("-", "_"), None)
        if broken:
            return broken()
        try:
            claims = self.authenticate(body)
        except Exception as e:  # a service tells its caller what it dislikes
            log("distrusted", why=str(e))
            return self.reply(200, response(False, message="token refused"))
        nonce, now = claims["nonce"], datetime.now(timezone.utc)
        seen.append(nonce)
        answers = {
            "ok": lambda: sign(nonce, now, keys["old"]),
            "rotated": lambda: sign(nonce, now, keys["new"]),
            "wrong-key": lambda: sign(nonce, now, keys["foreign"]),
            "old-minute": lambda: sign(nonce, now - timedelta(hours=1), keys["old"]),
            "fast-clock": lambda: sign(nonce, now + timedelta(hours=2), keys["old"]),
            "replay": lambda: sign(seen[0], now, keys["old"]),
            "no-token": lambda: "",
            "bad-token": lambda: nonce,
        }
        log("authenticated", tenant=claims[CTX], alg="RS256")
        self.reply(200, response(True, answers[mode]()))

    def authenticate(self, body):
        """Reads the call strictly, as a WCF service does."""
        if self.headers["Content-Type"] != "text/xml; charset=utf-8":
            raise ValueError("Content-Type")
        if self.headers["SOAPAction"] != ACTION:
            raise ValueError("SOAPAction")
        root = ET.fromstring(body)
        if root.tag != f"{{{SOAP}}}Envelope":
            raise ValueError("no envelope")
        header = root.find(f"{{{SOAP}}}Header/{{{MIRROR}}}SignedToken")
        if header is None or header.get(f"{{{SOAP}}}mustUnderstand") != "1":
            raise ValueError("no SignedToken")
        if root.find(f"{{{SOAP}}}Body/{{{MIRROR}}}AuthenticateRequest/{{{MIRROR}}}ClientState") is None:
            raise ValueError("no AuthenticateRequest")
        return validate(header.text)

    def reply(self, status, body, content_type="text/xml; charset=utf-8"):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # the ways in which it goes wrong before it has looked at the call

    def broken_fault_200(self):
        self.reply(200, FAULT)

    def broken_fault(self):
        self.reply(500, FAULT)

    def broken_get_only(self):
        self.reply(405, HELP_PAGE, "text/html")

    def broken_not_found(self):
        self.reply(404, HELP_PAGE, "text/html")

    def broken_html(self):
        self.reply(200, HELP_PAGE, "text/html")

    def broken_json(self):
        self.reply(200, b'{"ok":true}', "application/json")

    def broken_error_page(self):
        self.reply(500, b"<html>Server Error in '/' Application.</html>", "text/html")

    def broken_soap_1_2(self):
        self.reply(200, FAULT.replace(SOAP.encode(), b"http://www.w3.org/2003/05/soap-envelope"), "application/soap+xml")

    def broken_dtd(self):
        self.reply(200, b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + envelope("<x>&e;</x>"))

    def broken_gigabyte(self):
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        try:
            for _ in range(1 << 10):
                self.wfile.write(b" " * (1 << 20))
        except OSError:
            pass

    def half_close(self, sent):
        self.wfile.write(sent)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.rfile.read(1)  # until the caller gives up
        self.close_connection = True

    def broken_half_closed(self):
        self.half_close(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 2000\r\n\r\n" + response(True)[:100])

    def broken_half_closed_at_once(self):
        self.half_close(b"")

    def broken_trickling(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", "2000")
        self.end_headers()
        try:
            for b in response(True):
                self.wfile.write(bytes([b]))
                time.sleep(0.05)
        except OSError:
            pass
        self.close_connection = True

    def broken_silent(self):
        self.rfile.read(1)
        self.close_connection = True

    def broken_not_http(self):
        self.wfile.write(b"220 mail.example ESMTP\r\n")
        self.close_connection = True


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
log("listening", port=server.server_address[1], public_keys=[rsa_xml(keys["old"]), rsa_xml(keys["new"])])
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
