"""Rules of our own about what is deployed, beyond what schemas say. Run by deploy/check.

    check.py RENDERED.yaml …        the overlays as kubectl kustomize writes them

Every fault is printed; any one is the end. Knows YAML and nothing of the executable: that settings named here exist, and ports are
those of the defaults, is proven by tests/it/deploy.rs.
"""

import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).parent.parent
FAULTS = []
# Made by hand or by SealedSecrets and SOPS, never in the repository.
SECRETS = {"iot-meter", "iot-meter-alerts", "iot-meter-grafana"}


def rule(holds, text):
    if not holds:
        FAULTS.append(text)


def name_of(image):
    """What an image is called, without its registry, its tag and its digest."""
    return image.split("@")[0].rpartition("/")[2].partition(":")[0]


def tag_of(image):
    return image.split("@")[0].rpartition("/")[2].partition(":")[2]


def is_pinned(image):
    """A tag that says a version, or a digest."""
    if "@sha256:" in image:
        return True
    _, colon, tag = image.rpartition(":")
    return bool(colon) and "/" not in tag and tag != "latest" and any(c.isdigit() for c in tag)


# ---- compose ---------------------------------------------------------------------------------------------------------


def compose_service(file, services, name):
    service = dict(services[name])
    if extended := service.pop("extends", None):
        other = yaml.safe_load((file.parent / extended["file"]).read_text())
        service = {**other["services"][extended["service"]], **service}
    return service


def check_mounts(where, folder, service, volumes):
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        if source.startswith("."):
            rule((folder / source).exists(), f"{where}: {source} is not there")
        else:
            rule(source in volumes, f"{where}: the volume {source} is not declared")


def check_contained(where, service, is_once):
    rule(service.get("read_only") is True, f"{where}: its root can be written to")
    rule(service.get("cap_drop") == ["ALL"], f"{where}: keeps capabilities")
    rule("no-new-privileges:true" in service.get("security_opt", []), f"{where}: may gain privileges")
    rule("user" in service, f"{where}: runs as whom its image likes")
    as_root = str(service.get("user", "")).split(":")[0] == "0"
    rule(not as_root or (is_once and service.get("network_mode") == "none"), f"{where}: root with a network")
    rule(is_once or "healthcheck" in service, f"{where}: nobody sees whether it works")
    rule(is_once or service.get("restart") == "unless-stopped", f"{where}: is not started again")
    for port in service.get("ports", []):
        rule(str(port).startswith("127.0.0.1:"), f"{where}: {port} is open to everybody")


def check_environment(where, service, secrets):
    for key, value in service.get("environment", {}).items():
        is_file = key.endswith("FILE")
        if re.search("PASSWORD|SECRET|TOKEN|_KEY", key) and not key.endswith("KEY_ID"):
            rule(is_file, f"{where}: {key} is a secret in clear")
        if is_file and str(value).startswith("/run/secrets/"):
            name = str(value).removeprefix("/run/secrets/")
            rule(name in service.get("secrets", []), f"{where}: {key} names the secret {name}, which it is not given")
    for name in service.get("secrets", []):
        rule(name in secrets, f"{where}: the secret {name} is not declared")


def check_compose(file):
    project = yaml.safe_load(file.read_text())
    services, volumes, secrets = project["services"], project.get("volumes", {}), project.get("secrets", {})
    made = set(re.findall(r"^secret (\w+)", (ROOT / "deploy/compose/make-secrets").read_text(), re.M))
    for name, secret in secrets.items():
        path = pathlib.PurePath(secret["file"])
        rule(path.parent.name == "secrets" and path.name in made, f"{file.name}: nobody makes the secret {name}")
    for name in services:
        where, service = f"{file.name} {name}", compose_service(file, services, name)
        is_once = service.get("restart") == "no"
        rule(is_pinned(service["image"]), f"{where}: {service['image']} may be anything")
        check_contained(where, service, is_once)
        check_environment(where, service, secrets)
        check_mounts(where, file.parent, service, volumes)
        for other, how in service.get("depends_on", {}).items():
            ends = services[other].get("restart") == "no"
            wanted = "service_completed_successfully" if ends else "service_healthy"
            rule(how["condition"] == wanted, f"{where}: does not wait until {other} is {wanted}")


def images_of_compose(files):
    """The tag of each image."""
    services = [service for file in files for service in yaml.safe_load(file.read_text())["services"].values()]
    return {name_of(service["image"]): tag_of(service["image"]) for service in services if "image" in service}


# ---- Kubernetes ------------------------------------------------------------------------------------------------------


def pods(objects):
    for thing in objects:
        if thing["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Job"):
            yield thing, thing["spec"]["template"]


def check_container(where, container):
    security = container.get("securityContext", {})
    rule(security.get("readOnlyRootFilesystem") is True, f"{where}: its root can be written to")
    rule(security.get("allowPrivilegeEscalation") is False, f"{where}: may gain privileges")
    rule(security.get("capabilities", {}).get("drop") == ["ALL"], f"{where}: keeps capabilities")
    rule(is_pinned(container["image"]), f"{where}: {container['image']} may be anything")
    for probe in ("readinessProbe", "livenessProbe"):
        rule(probe in container, f"{where}: has no {probe}")
    resources = container.get("resources", {})
    rule({"cpu", "memory"} <= resources.get("requests", {}).keys(), f"{where}: requests no cpu and memory")
    rule("memory" in resources.get("limits", {}), f"{where}: has no limit of memory")
    ports = {port["name"] for port in container.get("ports", [])}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        rule(port is None or port in ports, f"{where}: {probe} asks the port {port}, which is not there")


def sources_of(pod):
    """What a pod takes from ConfigMaps and Secrets: kind, name, and the keys it wants."""
    for container in pod["containers"]:
        for source in container.get("envFrom", []):
            for kind in ("configMap", "secret"):
                if f"{kind}Ref" in source:
                    yield kind, source[f"{kind}Ref"]["name"], []
    for volume in pod.get("volumes", []):
        for source in volume.get("projected", {}).get("sources", [volume]):
            if "configMap" in source:
                items = source["configMap"].get("items", [])
                yield "configMap", source["configMap"]["name"], [item["key"] for item in items]
            if "secret" in source:
                yield "secret", source["secret"].get("secretName", source["secret"].get("name")), []


def check_pod(where, template, maps):
    pod = template["spec"]
    security = pod.get("securityContext", {})
    rule(security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0, f"{where}: may run as root")
    rule(security.get("seccompProfile", {}).get("type") == "RuntimeDefault", f"{where}: every system call is open to it")
    rule(pod.get("automountServiceAccountToken") is False, f"{where}: is given the cluster's token")
    for container in pod["containers"]:
        check_container(f"{where} {container['name']}", container)
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | template.get("claims", set())
        for mount in container.get("volumeMounts", []):
            rule(mount["name"] in volumes, f"{where}: the volume {mount['name']} is not there")
    for kind, name, keys in sources_of(pod):
        if kind == "secret":
            rule(name in SECRETS, f"{where}: nobody is told to make the secret {name}")
        else:
            data = maps.get(name)
            rule(data is not None, f"{where}: there is no ConfigMap {name}")
            rule(all(key in (data or {}) for key in keys), f"{where}: {name} has not all of {keys}")


def selects(selector, labels):
    return selector.items() <= labels.items()


def check_services(where, objects):
    templates = [template for _, template in pods(objects)]
    for service in (thing for thing in objects if thing["kind"] == "Service"):
        name, spec = f"{where} service {service['metadata']['name']}", service["spec"]
        found = [t for t in templates if selects(spec["selector"], t["metadata"]["labels"])]
        rule(found, f"{name}: there is no such pod")
        ports = {port["name"] for t in found for c in t["spec"]["containers"] for port in c.get("ports", [])}
        for port in spec["ports"]:
            rule(port["targetPort"] in ports, f"{name}: no pod has the port {port['targetPort']}")
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for thing in (thing for thing in objects if thing["kind"] == kind):
            selector = thing["spec"].get("selector") or thing["spec"]["podSelector"]
            found = any(selects(selector.get("matchLabels", {}), t["metadata"]["labels"]) for t in templates)
            rule(found, f"{where} {kind} {thing['metadata']['name']}: there is no such pod")
    covered = [thing["spec"]["podSelector"]["matchLabels"] for thing in objects if thing["kind"] == "NetworkPolicy"]
    for owner, template in pods(objects):
        is_covered = any(selects(labels, template["metadata"]["labels"]) for labels in covered)
        rule(is_covered, f"{where} {owner['metadata']['name']}: no NetworkPolicy is about it")


def check_monitors(where, objects):
    """What ServiceMonitors find; their form is checked by monitors.py."""
    for monitor in (thing for thing in objects if thing["kind"] == "ServiceMonitor"):
        name, spec = f"{where} ServiceMonitor", monitor["spec"]

        def is_meant(labels):
            for want in spec["selector"].get("matchExpressions", []):
                value = labels.get(want["key"])
                if value is None or (want["operator"] == "In" and value not in want["values"]):
                    return False
            return selects(spec["selector"].get("matchLabels", {}), labels)

        services = [s for s in objects if s["kind"] == "Service" and is_meant(s["metadata"].get("labels", {}))]
        rule(len(services) == 1, f"{name}: finds {len(services)} services, so that pods are scraped as often")
        for service in services:
            ports = {port["name"] for port in service["spec"]["ports"]}
            rule(all(e["port"] in ports for e in spec["endpoints"]), f"{name}: asks for a port that is not there")
            rule(service["metadata"]["labels"].get(spec["jobLabel"]) == "iot-meter", f"{name}: the job is not iot-meter")


def check_who_watches(where, objects):
    """Either a Prometheus of its own, or that of the operator: a cluster without it refuses its kinds."""
    has_own = any(owner["metadata"]["name"] == "prometheus" for owner, _ in pods(objects))
    of_operator = {thing["kind"] for thing in objects if thing["apiVersion"].startswith("monitoring.coreos.com/")}
    if where == "operator":
        rule("ServiceMonitor" in of_operator, f"{where}: the operator is not told whom to scrape")
        rule(not has_own, f"{where}: its own Prometheus scrapes too, everything twice")
    else:
        rule(not of_operator, f"{where}: {sorted(of_operator)} can be applied with the Prometheus Operator only")


def check_images(where, objects, of_compose):
    """What is in compose files too is the same version there: the files it is given are the same."""
    images = [container["image"] for _, template in pods(objects) for container in template["spec"]["containers"]]
    for image in images:
        name, tag = name_of(image), tag_of(image)
        rule(name in of_compose, f"{where}: no compose file has the image {name}")
        rule(tag == of_compose.get(name, tag), f"{where}: {image}, but {name}:{of_compose.get(name)} in compose files")


def check_kubernetes(file, of_compose):
    where = file.stem
    objects = [thing for thing in yaml.safe_load_all(file.read_text()) if thing]
    rule(len(objects) > 5, f"{where}: hardly anything is in it")
    rule(all(thing["kind"] != "Secret" for thing in objects), f"{where}: has a secret in clear")
    maps = {thing["metadata"]["name"]: thing["data"] for thing in objects if thing["kind"] == "ConfigMap"}
    policies = set()
    for owner, template in pods(objects):
        claims = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        check_pod(f"{where} {owner['metadata']['name']}", {**template, "claims": claims}, maps)
        policies |= {c.get("imagePullPolicy", "none") for c in template["spec"]["containers"]}
    rule(policies == {"IfNotPresent"}, f"{where}: imagePullPolicy is {sorted(policies)}")
    check_images(where, objects, of_compose)
    check_services(where, objects)
    check_monitors(where, objects)
    check_who_watches(where, objects)
    # One source: what is rendered is the file, letter by letter.
    for path in ("prometheus/prometheus.yml", "prometheus/rules.yml", "alertmanager/alertmanager.yml"):
        name = path.split("/")[1]
        for data in (data for data in maps.values() if name in data):
            rule(data[name] == (ROOT / "deploy" / path).read_text(), f"{where}: {name} is not the file deploy/{path}")
    return maps


def check_inhibitions():
    """A rule that holds nothing back is a fault: a name has one severity, so that no two alerts of a name explain each other."""
    routing = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    for inhibit in routing["inhibit_rules"]:
        rule("alertname" not in inhibit["equal"], f"alertmanager.yml: {inhibit['source_matchers']} holds nothing back")


# ---- workflows -------------------------------------------------------------------------------------------------------


def check_workflows():
    """What is released is pushed by a release alone, and what is deployed can be fetched."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/image.yml").read_text())
    tag = workflow["env"].get("IMAGE_TAG")
    rule(tag == "${{ !inputs.push && 'main' || '' }}", f"image.yml: what main pushes is called {tag}, maybe like a release")
    make = ["make", "--no-print-directory", "-C", str(ROOT), "-n", "image-push", "image-index", "IMAGE=registry/x"]
    for tag, wanted in {"main": "main", "": r"\d+\.\d+\.\d+"}.items():
        said = subprocess.run([*make, f"IMAGE_TAG={tag}"], capture_output=True, text=True, check=True).stdout
        pushed = re.findall(r" (?:push|-t) registry/x:(\S+)", said)
        is_right = len(pushed) == 2 and all(re.fullmatch(f"{wanted}(-amd64)?", name) for name in pushed)
        rule(is_right, f"make image-push image-index IMAGE_TAG={tag}: pushes {pushed}")
    deployed = re.findall(r"OVERLAY=(\S+)", (ROOT / ".github/workflows/deploy.yml").read_text())
    rule(deployed == ["production"], f"deploy.yml: deploys {deployed}; an image built on a desk cannot be fetched")


def main():
    compose = sorted((ROOT / "deploy/compose").glob("compose*.yml"))
    rule(len(compose) >= 2, "compose files were not found")
    for file in compose:
        check_compose(file)
    check_inhibitions()
    check_workflows()
    of_compose = images_of_compose(compose)
    for name in sys.argv[1:]:
        maps = check_kubernetes(pathlib.Path(name), of_compose)
        if name.endswith("production.yaml"):
            for wanted in ("rules.yml", "alertmanager.yml"):
                rule(any(wanted in data for data in maps.values()), f"production: {wanted} is in no ConfigMap")
    for fault in FAULTS:
        print(f"FAULT {fault}", file=sys.stderr)
    if FAULTS:
        sys.exit(1)
    print(f"rules of our own hold in {len(compose)} compose files and {len(sys.argv) - 1} overlays")


main()
