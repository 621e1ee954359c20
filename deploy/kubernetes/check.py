"""Holds the rendered objects of a region against each other, which schemas do not do.

Writes the files of the region's ConfigMap into the directory that is the second argument.
"""

import pathlib
import sys

import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python before 3.11
    tomllib = None

# How long a process may take to drain.
DRAIN_SECONDS = 60

# What matters of the Prometheus operator's own schema: nothing else is said in base/monitor.yaml.
SERVICE_MONITOR = {"jobLabel": str, "selector": dict, "endpoints": list}
ENDPOINT = {"port": str, "path": str, "interval": str}

problems = []


def expect(is_right, problem):
    if not is_right:
        problems.append(problem)


def matches(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def pods(objects):
    """For every StatefulSet its template, with the labels that its pods have."""
    for one in objects["StatefulSet"]:
        template = one["spec"]["template"]
        names = [f"{one['metadata']['name']}-{index}" for index in range(one["spec"]["replicas"])]
        for name in names:
            yield one, template, {**template["metadata"]["labels"], "statefulset.kubernetes.io/pod-name": name}


def check_pod(one, template):
    name, spec = one["metadata"]["name"], template["spec"]
    expect(spec["terminationGracePeriodSeconds"] > DRAIN_SECONDS, f"{name} is killed before it has drained")
    expect(matches(one["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]), f"{name} selects other pods")
    pod = spec["securityContext"]
    expect(pod["runAsNonRoot"] and pod["runAsUser"] != 0, f"{name} runs as root")
    expect(pod["seccompProfile"]["type"] == "RuntimeDefault", f"{name} has no seccomp profile")
    expect(spec["automountServiceAccountToken"] is False, f"{name} has a token")
    (container,) = spec["containers"]
    own = container["securityContext"]
    expect(own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"] and not own["privileged"], f"{name} has too many rights")
    expect(own["capabilities"] == {"drop": ["ALL"]}, f"{name} has capabilities")
    expect({"cpu", "memory"} <= container["resources"]["requests"].keys(), f"{name} does not say what it needs")
    ports = {port["name"] for port in container["ports"]}
    for probe, path in {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}.items():
        asked = container[probe]["httpGet"]
        expect(asked["path"] == path and asked["port"] in ports, f"{name} has a wrong {probe}")
    volumes = {volume["name"] for volume in spec["volumes"]}
    expect({mount["name"] for mount in container["volumeMounts"]} == volumes, f"{name} mounts other volumes than it has")
    return ports


def main():
    text = pathlib.Path(sys.argv[1]).read_text()
    objects = {}
    for one in yaml.safe_load_all(text):
        objects.setdefault(one["kind"], []).append(one)
        expect(one["metadata"]["namespace"] == "gaia", f"{one['metadata']['name']} is in another namespace")
    named = {kind: {one["metadata"]["name"]: one for one in all} for kind, all in objects.items()}

    # What is referred to by name is there. Secrets are not: real keys have no place in a repository.
    expect("Secret" not in objects, "keys are made where they are used")
    all_pods = list(pods(objects))
    for one, template, _ in all_pods:
        ports = check_pod(one, template)
        spec = template["spec"]
        expect(spec["serviceAccountName"] in named["ServiceAccount"], "no such service account")
        expect(one["spec"]["serviceName"] in named["Service"], f"no Service {one['spec']['serviceName']}")
        for volume in spec["volumes"]:
            if "configMap" in volume:
                expect(volume["configMap"]["name"] in named["ConfigMap"], f"no ConfigMap {volume['configMap']['name']}")
            else:
                role = template["metadata"]["labels"]["app.kubernetes.io/component"]
                expect(volume["secret"]["secretName"] == f"gaia-{role}-certificates", "another secret than README.md says")
        for source in spec["containers"][0]["envFrom"]:
            expect(source["configMapRef"]["name"] in named["ConfigMap"], "no ConfigMap for the environment")

    # Selectors find pods, and ports are of those.
    def selected(selector):
        return [template for _, template, labels in all_pods if matches(selector, labels)]

    for name, service in named["Service"].items():
        found = selected(service["spec"]["selector"])
        expect(found, f"Service {name} selects no pod")
        expect(service["spec"].get("publishNotReadyAddresses"), f"Service {name} hides who waits")
        for port in service["spec"]["ports"]:
            there = {(p["name"], p.get("protocol", "TCP")) for t in found for p in t["spec"]["containers"][0]["ports"]}
            expect((port["targetPort"], port.get("protocol", "TCP")) in there, f"Service {name} leads to no port")
    for kind, of in {"PodDisruptionBudget": lambda s: s["selector"], "NetworkPolicy": lambda s: s["podSelector"]}.items():
        covered = [t for one in objects[kind] for t in selected(of(one["spec"])["matchLabels"])]
        expect(len(covered) == len(all_pods), f"not every pod has one {kind}")

    (monitor,) = objects["ServiceMonitor"]
    for key, value in monitor["spec"].items():
        expect(isinstance(value, SERVICE_MONITOR.get(key, ())), f"ServiceMonitor: {key}")
    for endpoint in monitor["spec"]["endpoints"]:
        for key, value in endpoint.items():
            expect(isinstance(value, ENDPOINT.get(key, ())), f"ServiceMonitor: endpoints.{key}")
        watched = [s for s in objects["Service"] if matches(monitor["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
        watched = [s for s in watched if any(port["name"] == endpoint["port"] for port in s["spec"]["ports"])]
        reached = {id(t) for s in watched for t in selected(s["spec"]["selector"])}
        expect(reached == {id(t) for _, t, _ in all_pods}, "ServiceMonitor does not reach all pods")

    # The files say of the objects what is true.
    (config,) = [c for name, c in named["ConfigMap"].items() if name.startswith("gaia-config-")]
    for file, content in config["data"].items():
        (pathlib.Path(sys.argv[2]) / file).write_text(content)
    if tomllib:
        region, job = tomllib.loads(config["data"]["region.toml"]), tomllib.loads(config["data"]["job.toml"])
        replicas = {one["metadata"]["name"]: one["spec"]["replicas"] for one in objects["StatefulSet"]}
        workers = {member["name"]: member["workers"] for member in job["regions"]}[region["datacenter"]]
        expect(replicas == {"gaia-server": region["servers"]["count"], "gaia-worker": workers}, f"{replicas} replicas")
        expect(region["at_end"] == "stay", "who exits is started again")
        wan = [name for name in named["Service"] if name.endswith("-wan")]
        expect(len(wan) == (region["servers"]["count"] if "listen" in region["wan"] else 0), f"WAN services {wan}")
        (policy,) = [p for p in objects["NetworkPolicy"] if p["metadata"]["name"] == "gaia-server"]
        lets_in = any(port.get("port") == "wan" for rule in policy["spec"]["ingress"] for port in rule["ports"])
        expect(lets_in == ("listen" in region["wan"]), "who may come in over the WAN")
    else:
        print("kubernetes: this Python reads no TOML, the region file is not compared")

    for problem in problems:
        print(f"kubernetes: {sys.argv[1]}: {problem}", file=sys.stderr)
    count = sum(len(all) for all in objects.values())
    print(f"kubernetes: {pathlib.Path(sys.argv[1]).stem}: {count} objects fit the schemas and each other")
    return bool(problems)


sys.exit(main())
