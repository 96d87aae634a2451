#!/usr/bin/python3
"""Make strict JSON schemas for kubeconform, without a network.

    tools/mkschemas.py OUT SWAGGER.json [CRD.yaml ...]

Every kind that the OpenAPI document of Kubernetes names, and every version of the custom
resources, becomes OUT/KIND-GROUP-VERSION.json. Fields that no schema knows are errors.
"""

import json
import pathlib
import sys

import yaml


class Loader(yaml.SafeLoader):
    """YAML 1.1 gives a bare = a meaning that nobody intends."""

    yaml_implicit_resolvers = {key: value for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items() if key != "="}


def strict(node):
    """Close every object that lists its fields, and let numbers stand where Kubernetes takes them."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: strict(value) for key, value in node.items()}
    free = node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-embedded-resource")
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node and not free:
        node["additionalProperties"] = False
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
        node["type"] = ["string", "integer"]
    if node.get("format") == "int-or-string":
        node["type"] = ["string", "integer"]
        del node["format"]
    return node


def reachable(name, definitions, seen):
    if name in seen:
        return
    seen.add(name)

    def walk(node):
        if isinstance(node, dict):
            ref = node.get("$ref")
            if isinstance(ref, str):
                reachable(ref.rsplit("/", 1)[1], definitions, seen)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(definitions[name])


def write(out, kind, group, version, schema):
    suffix = f"-{group.split('.')[0]}" if group else ""
    (out / f"{kind.lower()}{suffix}-{version}.json").write_text(json.dumps(schema))


def kubernetes(out, path):
    definitions = strict(json.loads(pathlib.Path(path).read_text())["definitions"])
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] = ["string", "number"]
    count = 0
    for name, definition in definitions.items():
        kinds = definition.get("x-kubernetes-group-version-kind") or []
        if len(kinds) != 1:
            continue  # options and status objects, which belong to every group
        needed = set()
        reachable(name, definitions, needed)
        schema = {"$ref": f"#/definitions/{name}", "definitions": {n: definitions[n] for n in sorted(needed)}}
        write(out, kinds[0]["kind"], kinds[0]["group"], kinds[0]["version"], schema)
        count += 1
    return count


def custom(out, path):
    count = 0
    for document in yaml.load_all(pathlib.Path(path).read_text(), Loader):
        if not document or document.get("kind") != "CustomResourceDefinition":
            continue
        spec = document["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # what every object has, and a CRD leaves out
            schema["properties"]["metadata"] = {"type": "object"}
            write(out, spec["names"]["kind"], spec["group"], version["name"], schema)
            count += 1
    return count


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    print(f"{kubernetes(out, sys.argv[2])} kinds, {sum(custom(out, crd) for crd in sys.argv[3:])} of custom resources")


main()
