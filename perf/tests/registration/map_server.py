"""A Map-Server that shares no line with Altitude: what it reads and verifies comes from RFC 9301 and hmac alone.

Prints one JSON object a line for each message that comes. What it answers is told on the command line.
"""

import argparse
import hashlib
import hmac
import ipaddress
import json
import socket
import struct

NEWS = 0x102
SALTS = {
    3: b"Map-Register Authentication",
    4: b"Map-Notify Authentication",
    5: b"Map-Notify-Ack Authentication",
}


def mac(message, secret, algorithm):
    """The MAC, not cut off, of a message whose authentication data are zero (RFC 9301 section 5.6)."""
    if algorithm == 3:  # HKDF (RFC 5869): extract with the salt, expand once
        extracted = hmac.new(SALTS[message[0] >> 4], message[4:12] + secret, hashlib.sha256).digest()
        secret = hmac.new(extracted, b"\x01", hashlib.sha256).digest()
    return hmac.new(secret, message, hashlib.sha1 if algorithm == 1 else hashlib.sha256).digest()


def address(octets, at):
    (afi,) = struct.unpack_from(">H", octets, at)
    length = {1: 4, 2: 16}[afi]
    return ipaddress.ip_address(octets[at + 2 : at + 2 + length]), at + 2 + length


def record(octets, at):
    """One record, and where the next begins."""
    ttl, count, length, flags, _, _ = struct.unpack_from(">IBBBBH", octets, at)
    prefix, end = address(octets, at + 10)
    locators = []
    for _ in range(count):
        priority, weight, _, _, bits = struct.unpack_from(">BBBBH", octets, end)
        locator, end = address(octets, end + 6)
        flag = {"local": bool(bits & 4), "probed": bool(bits & 2), "reachable": bool(bits & 1)}
        locators.append({"address": str(locator), "priority": priority, "weight": weight, **flag})
    about = {"prefix": f"{prefix}/{length}", "ttl": ttl, "authoritative": bool(flags & 0x10), "locators": locators}
    return about, octets[at:end], end


def read(octets, secret):
    (word, nonce, key, algorithm, length) = struct.unpack_from(">IQBBH", octets)
    blank = octets[:16] + bytes(length) + octets[16 + length :]
    proof = octets[16 : 16 + length]
    at, records, raw = 16 + length, [], []
    for _ in range(word & 255):
        about, part, at = record(octets, at)
        records.append(about)
        raw.append(part)
    trailer = octets[at:]
    said = {
        "type": word >> 28,
        "nonce": nonce,
        "mac": hmac.compare_digest(proof, mac(blank, secret, algorithm)[:length]) and length >= 12,
        "mac-octets": length,
        "key": key,
        "algorithm": algorithm,
        "octets": len(octets),
        "proxy": bool(word & 1 << 27),
        "identity": bool(word & 1 << 25),
        "ttl-timeout": bool(word & 1 << 11),
        "merge": bool(word & 1 << 10),
        "notify": bool(word & 1 << 8),
        "xtr-id": trailer[:16].hex(),
        "site-id": trailer[16:].hex(),
        "records": records,
    }
    return said, raw, trailer


def notify(nonce, records, trailer, secret, said):
    word = 4 << 28 | (1 << 27 if trailer else 0) | len(records)
    head = struct.pack(">IQBBH", word, nonce, said["key"], said["algorithm"], said["mac-octets"])
    blank = head + bytes(said["mac-octets"]) + b"".join(records) + trailer
    proof = mac(blank, secret, said["algorithm"])[: said["mac-octets"]]
    return head + proof + blank[16 + len(proof) :]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("address")
    arguments.add_argument("secret")
    arguments.add_argument("--mute", action="store_true", help="answer nothing")
    arguments.add_argument("--sign", help="sign with this secret instead")
    arguments.add_argument("--refuse", help="leave this prefix out")
    arguments.add_argument("--noise", action="store_true", help="forge, repeat, and tell news of its own")
    options = arguments.parse_args()
    secret = options.secret.encode()
    sign = (options.sign or options.secret).encode()
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((options.address, 4342))
    print("ready", flush=True)
    told = False
    while True:
        octets, client = server.recvfrom(65536)
        said, raw, trailer = read(octets, secret)
        print(json.dumps({**said, "port": client[1]}), flush=True)
        if options.mute or said["type"] != 3 or not said["mac"] or not said["notify"]:
            continue
        kept = [part for about, part in zip(said["records"], raw) if about["prefix"] != options.refuse]
        answer = notify(said["nonce"], kept, trailer, sign, said)
        if options.noise:
            server.sendto(answer[:-1] + bytes([answer[-1] ^ 1]), client)
        server.sendto(answer, client)
        if options.noise:
            server.sendto(answer, client)
            if not told:
                server.sendto(notify(NEWS, kept, trailer, sign, said), client)
                told = True


main()
