"""Takes apart what `scripts/manifests` checks: DIR holds native.yaml and plain.yaml, as kustomize built them."""

import json
import sys
from pathlib import Path

import yaml

WORK = Path(sys.argv[1])
# What Kubernetes itself has a schema for. The other kinds are the Prometheus operator's.
OPERATORS = {"PodMonitor", "PrometheusRule"}


def core(overlay):
    """The overlay without the operator's kinds, and the operator's by kind."""
    manifests = list(yaml.safe_load_all((WORK / f"{overlay}.yaml").read_text()))
    own = [manifest for manifest in manifests if manifest["kind"] not in OPERATORS]
    (WORK / f"{overlay}-core.yaml").write_text(yaml.safe_dump_all(own))
    return {manifest["kind"]: manifest for manifest in manifests if manifest["kind"] in OPERATORS}


def chart(name):
    """A chart's values as the Pod that the chart makes of them."""
    values = yaml.safe_load(Path(f"k8s/helm/{name}.yaml").read_text())
    values = values.get("controller", values)
    containers = values.get("sidecarContainers") or values["extraContainers"]
    volumes = values["extraVolumes"]
    known = {volume["name"] for volume in volumes}
    used = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    # The charts' own.
    volumes = volumes + [{"name": volume, "emptyDir": {}} for volume in sorted(used - known)]
    if not used - known <= {"tmp", "scratch"}:
        sys.exit(f"k8s/helm/{name}.yaml mounts a volume that neither it nor the chart has: {used - known}")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}}
    pod["spec"] = {"containers": containers, "volumes": volumes}
    (WORK / f"chart-{name}.yaml").write_text(yaml.safe_dump(pod))


def main():
    """Writes everything, and compares what can be compared here."""
    monitoring = core("native")
    core("plain")
    for name in ("haproxy", "kubernetes-ingress", "haproxy-ingress"):
        chart(name)
    rules = {"k8s": monitoring["PrometheusRule"]["spec"], "prometheus": yaml.safe_load(Path("prometheus/rules.yml").read_text())}
    for place, groups in rules.items():
        (WORK / f"rules-{place}.json").write_text(json.dumps(groups, indent=1, sort_keys=True))


main()
