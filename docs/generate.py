#!/usr/bin/env python3
"""Writes the reference of the gRPC API from what `buf build` makes of the protos, as JSON on standard input, to standard output."""

import json
import re
import sys

# The places of things in a file, as google/protobuf/descriptor.proto numbers them.
MESSAGE, ENUM, SERVICE, FIELD, VALUE, METHOD, ONEOF, SYNTAX, PACKAGE = 4, 5, 6, 2, 2, 2, 8, 12, 2
HEAD = """\
# The gRPC API

Written by `docs/generate.sh` from the comments in [`proto/`](../proto/catga). What the errors mean is in [`errors.md`](errors.md), a call of
each RPC in [`grpcurl.md`](grpcurl.md).

How to read a field: *optional* tells left out from zero or empty; *repeated* is a list; a message that is left out is told from an empty one;
anything else that is left out has its zero value. Of the fields under a **one of** one is set at the most.
"""
# The packages in the order in which to read them; others follow.
ORDER = ["catga.orders.v1", "catga.ids.v1", "catga.system.v1", "catga.events.v1"]


class File:
    """One file, with its comments by their place."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.package = descriptor["package"]
        self.comments = {}
        for location in descriptor.get("sourceCodeInfo", {}).get("location", []):
            place = tuple(location.get("path", []))
            if "leadingComments" in location:
                self.comments[place] = text(location["leadingComments"])
            detached = location.get("leadingDetachedComments")
            if place == (SYNTAX,) and detached and place not in self.comments:
                self.comments[place] = text(detached[0])

    def comment(self, *place):
        return self.comments.get(place, "")


def text(comment):
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.strip("\n").split("\n"))


def in_a_row(comment):
    """A comment for a cell of a table."""
    return re.sub(r"\s*\n\s*", " ", comment).replace("|", "\\|")


def anchor(name):
    return name.lstrip(".").replace(".", "-").lower()


def link(full_name, known):
    """The type of this name: a link if it is described here, else its full name."""
    name = full_name.lstrip(".")
    return f"[{name.rsplit('.', 1)[1]}](#{anchor(name)})" if name in known else f"`{name}`"


def type_of(field, known):
    kind = field["type"].removeprefix("TYPE_").lower()
    return link(field["typeName"], known) if "typeName" in field else kind


def heading(level, file, name):
    return f'<a id="{anchor(f"{file.package}.{name}")}"></a>\n\n{"#" * level} {name}\n'


def service(file, index, known):
    descriptor = file.descriptor["service"][index]
    lines = [heading(3, file, descriptor["name"]), file.comment(SERVICE, index), ""]
    lines += ["| RPC | request | reply | |", "| --- | --- | --- | --- |"]
    for number, method in enumerate(descriptor["method"]):
        sides = [("clientStreaming", "inputType"), ("serverStreaming", "outputType")]
        request, reply = (("stream of " if method.get(streams) else "") + link(method[kind], known) for streams, kind in sides)
        comment = in_a_row(file.comment(SERVICE, index, METHOD, number))
        lines.append(f"| `{method['name']}` | {request} | {reply} | {comment} |")
    return [*lines, ""]


def presence(field, descriptor):
    if field.get("proto3Optional"):
        return "optional "
    if field["label"] == "LABEL_REPEATED":
        return "repeated "
    if "oneofIndex" in field:
        return f"one of **{descriptor['oneofDecl'][field['oneofIndex']]['name']}**: "
    return ""


def message(file, index, known):
    descriptor = file.descriptor["messageType"][index]
    if descriptor.get("nestedType") or descriptor.get("enumType"):
        sys.exit(f"{descriptor['name']}: nested types are not provided for")
    lines = [heading(4, file, descriptor["name"]), file.comment(MESSAGE, index), ""]
    if not descriptor.get("field"):
        return [*lines, "No fields.", ""]
    lines += ["| field | no. | type | |", "| --- | --- | --- | --- |"]
    oneofs_named = set()
    for number, field in enumerate(descriptor["field"]):
        oneof = field.get("oneofIndex")
        if oneof is not None and not field.get("proto3Optional") and oneof not in oneofs_named:
            oneofs_named.add(oneof)
            about = in_a_row(file.comment(MESSAGE, index, ONEOF, oneof))
            lines.append(f"| **{descriptor['oneofDecl'][oneof]['name']}** | | one of the following | {about} |")
        comment = in_a_row(file.comment(MESSAGE, index, FIELD, number))
        if field.get("options", {}).get("deprecated"):
            comment = f"*Deprecated.* {comment}"
        kind = presence(field, descriptor) + type_of(field, known)
        lines.append(f"| `{field['name']}` | {field['number']} | {kind} | {comment} |")
    return [*lines, ""]


def enum(file, index):
    descriptor = file.descriptor["enumType"][index]
    lines = [heading(4, file, descriptor["name"]), file.comment(ENUM, index), ""]
    lines += ["| value | no. | |", "| --- | --- | --- |"]
    for number, value in enumerate(descriptor["value"]):
        comment = in_a_row(file.comment(ENUM, index, VALUE, number))
        lines.append(f"| `{value['name']}` | {value.get('number', 0)} | {comment} |")
    return [*lines, ""]


def package(name, files, known):
    lines = [f"## {name}\n"]
    lines += [file.comment(SYNTAX) + "\n" for file in files if file.comment(SYNTAX)]
    parts = [("service", lambda file, index: service(file, index, known)),
             ("messageType", lambda file, index: message(file, index, known)), ("enumType", enum)]
    for kind, write in parts:
        for file in files:
            for index in range(len(file.descriptor.get(kind, []))):
                lines += write(file, index)
    return lines


def contents(packages):
    lines = []
    for name, files in packages:
        lines.append(f"- [`{name}`](#{name.replace('.', '')})")
        for file in files:
            for descriptor in file.descriptor.get("service", []):
                own = f"{name}.{descriptor['name']}"
                rpcs = ", ".join(f"`{method['name']}`" for method in descriptor["method"])
                lines.append(f"  - [{descriptor['name']}](#{anchor(own)}): {rpcs}")
    return [*lines, ""]


def main():
    # Files that are only imported are not described; buf marks those that come from other modules.
    image = json.load(sys.stdin)["file"]
    files = sorted((File(descriptor) for descriptor in image if descriptor["package"].startswith("catga.")),
                   key=lambda file: file.descriptor["name"])
    names = sorted({file.package for file in files}, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    packages = [(name, [file for file in files if file.package == name]) for name in names]
    known = {f"{file.package}.{descriptor['name']}" for file in files for kind in ["messageType", "enumType"]
             for descriptor in file.descriptor.get(kind, [])}
    lines = [HEAD, *contents(packages)]
    for name, own in packages:
        lines += package(name, own, known)
    print(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip())


if __name__ == "__main__":
    main()
