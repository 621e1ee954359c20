"""Checks that the dashboard and the alerts ask only for what there is.

Metrics, and the labels of each, are those of the tables in docs/OPERATIONS.md, which a test compares with the program.
With a directory as argument, it writes the dashboard's queries there as rules, for promtool to parse.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
# Of every series of Gaia, and what Prometheus adds.
ALWAYS = {"datacenter", "role", "job", "instance"}
# What Grafana puts in.
VARIABLES = {"$__rate_interval": "5m", "$datacenter": ".*"}

ROW = re.compile(r"^\| `(gaia_\w+)` \| (gauge|counter|histogram) \| (.*?) \|", re.M)
METRIC = re.compile(r"\bgaia_\w+")
# The labels of a selector, of a grouping, and of a legend or an annotation.
SELECTED = re.compile(r"(gaia_\w+)\s*\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")
NAMED = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


def problems(where, query, texts, metrics):
    """What is wrong with one query, and with the texts that go with its result."""
    used = set(METRIC.findall(query))
    unknown = used - metrics.keys()
    if unknown:
        return [f"{where}: no such metric: {', '.join(sorted(unknown))}"]
    found = []
    for metric, labels in SELECTED.findall(query):
        for label in re.findall(r"(\w+)\s*[=!]", labels):
            if label not in metrics[metric] | ALWAYS:
                found.append(f"{where}: {metric} has no label {label}")
    there = set().union(ALWAYS, *(metrics[metric] for metric in used))
    asked = [label.strip() for labels in GROUPED.findall(query) for label in labels.split(",")]
    asked += [label for text in texts for label in NAMED.findall(text)]
    found += [f"{where}: nothing there has the label {label}" for label in asked if label and label not in there]
    # What a grouping leaves out cannot be told.
    kept = re.match(r"^\w+ by \(([^)]*)\)", query)
    if kept and "on (" not in query:
        kept = {label.strip() for label in kept[1].split(",")}
        told = {label for text in texts for label in NAMED.findall(text)}
        found += [f"{where}: {label} is told, but not grouped by" for label in sorted(told - kept)]
    return found


def alerts(text):
    """Name, query and texts of every alert, without a parser of YAML: each starts with `- alert:`."""
    for part in re.split(r"^\s*- alert: ", text, flags=re.M)[1:]:
        name = part.splitlines()[0]
        query = re.search(r"^\s*expr: (?:\|\n)?(.*?)^\s*(?:for|labels):", part, re.M | re.S)[1]
        yield name, query.strip(), re.findall(r'^\s*(?:summary|description): "(.*)"$', part, re.M)


def main():
    operations = (HERE / "../../docs/OPERATIONS.md").read_text()
    metrics = {}
    for name, kind, labels in ROW.findall(operations):
        labels = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            metrics |= {f"{name}_sum": labels, f"{name}_count": labels, f"{name}_bucket": labels | {"le"}}
        else:
            metrics[name] = labels
    assert len(metrics) > 30, "the tables of docs/OPERATIONS.md were not found"

    dashboard = json.loads((HERE / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    queries = [(panel["title"], target) for panel in panels for target in panel["targets"]]
    found = []
    for title, target in queries:
        found += problems(f"dashboard, {title}", target["expr"], [target["legendFormat"]], metrics)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found += problems(f"dashboard, ${variable['name']}", variable["query"]["query"], [], metrics)
    ids = [panel["id"] for panel in dashboard["panels"]]
    found += [f"dashboard: the id {one} is there twice" for one in sorted(set(ids)) if ids.count(one) > 1]

    ruled = list(alerts((HERE / "alerts.yml").read_text()))
    for name, query, texts in ruled:
        found += problems(f"alert {name}", query, texts, metrics)
    tested = (HERE / "alerts_test.yml").read_text()
    found += [f"alert {name}: has no test" for name, _, _ in ruled if f"alertname: {name}\n" not in tested]

    if len(sys.argv) > 1:
        rules = []
        for at, (_, target) in enumerate(queries):
            expr = target["expr"]
            for variable, value in VARIABLES.items():
                expr = expr.replace(variable, value)
            rules.append({"record": f"dashboard:query:{at}", "expr": expr})
        groups = {"groups": [{"name": "dashboard", "rules": rules}]}
        (pathlib.Path(sys.argv[1]) / "dashboard.yml").write_text(json.dumps(groups))

    for problem in found:
        print(f"monitoring: {problem}", file=sys.stderr)
    used = {m for _, t in queries for m in METRIC.findall(t["expr"])} | {m for _, q, _ in ruled for m in METRIC.findall(q)}
    print(f"monitoring: {len(queries)} queries and {len(ruled)} alerts ask for {len(used)} of {len(metrics)} metrics")
    return bool(found)


sys.exit(main())
