"""Compares what the processes, the links, the kernel and the simulation say of one run: run.sh has gathered it.

Exits with 1 if something does not agree.
"""

import json
import pathlib
import sys

REGIONS = ["virginia", "ireland", "singapore"]
LINKS = ["virginia-ireland", "virginia-singapore", "ireland-singapore"]

# What the counters of one run may differ by: they are read within a second of each other, not at once, and the
# kernel's also count what finds addresses.
COUNTERS = 0.02
# A real run is not the simulation's: packets fall differently, and processes share a machine.
OBJECTIVE = 0.01
BYTES = 0.15

failed = False


def agree(what, found, expected, share):
    """Says whether two figures agree, within a share of the second."""
    global failed
    off = found / expected - 1
    is_right = abs(off) <= share
    failed |= not is_right
    print(f"  {'ok    ' if is_right else 'failed'}  {what}: {found:,.6g} and {expected:,.6g}, {off:+.2%} (within {share:.0%})")


def kernel(table):
    """Bytes that a container received and sent, without the 14 bytes of Ethernet before each packet."""
    received = sent = 0
    for line in table.splitlines()[2:]:
        name, figures = line.split(":")
        figures = [int(figure) for figure in figures.split()]
        if name.strip() != "lo":
            received += figures[0] - 14 * figures[1]
            sent += figures[8] - 14 * figures[9]
    return received, sent


def main(run):
    status = {r: [p["status"] for p in json.loads((run / f"status-{r}.json").read_text())] for r in REGIONS}
    servers = {r: [server for process in status[r] for server in process["servers"]] for r in REGIONS}
    links = [link for name in LINKS for link in json.loads((run / f"link-{name}.json").read_text())["links"]]
    directions = [link[way] for link in links for way in ("forward", "backward")]
    simulated = json.loads((run / "simulation.json").read_text())["runs"][0]

    sent = sum(server["wan_sent_bytes"] for all in servers.values() for server in all)
    received = sum(server["wan_received_bytes"] for all in servers.values() for server in all)
    offered = sum(way["offered_bytes"] for way in directions)
    delivered = sum(way["delivered_bytes"] for way in directions)
    print("bytes over the WAN")
    agree("sent by servers, taken by links", sent, offered, COUNTERS)
    agree("received by servers, given by links", received, delivered, COUNTERS)
    tables = [run / f"dev-{name}" for name in LINKS]
    if all(table.exists() for table in tables):
        counted = [kernel(table.read_text()) for table in tables]
        agree("received by the links' interfaces, taken by links", sum(c[0] for c in counted), offered, COUNTERS)
        agree("sent by the links' interfaces, given by links", sum(c[1] for c in counted), delivered, COUNTERS)
    else:
        print("  skipped  interface counters: docker's processes are not this kernel's")
    payload = sum(link["sent_payload_bytes"] for all in servers.values() for server in all for link in server["links"])
    agree("payload sent by servers, simulated", payload, simulated["wan_payload_bytes"], BYTES)
    agree("sent by servers, simulated", sent, simulated["wan_bytes"], BYTES)

    print("objective")
    for region in REGIONS:
        scores = [worker["score"] for process in status[region] for worker in process["workers"] if worker["score"]]
        assert [score["clock"] for score in scores] == [100], f"{region}: {scores}"
        agree(f"{region}, simulated", scores[0]["objective"], simulated["objective"], OBJECTIVE)

    print("links")
    for link in links:
        ways = [f"{link[way]['offered_bytes']:,} bytes {way}" for way in ("forward", "backward")]
        print(f"  {link['name']}: {', '.join(ways)}")
    return failed


sys.exit(main(pathlib.Path(sys.argv[1])))
