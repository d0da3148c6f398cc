"""The protobuf messages of Sparkplug B, built from the specification's field numbers and wire types."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_F = descriptor_pb2.FieldDescriptorProto
_VALUES = {"float_value": _F.TYPE_FLOAT, "double_value": _F.TYPE_DOUBLE, "boolean_value": _F.TYPE_BOOL}
_VALUES |= {"string_value": _F.TYPE_STRING}


def _message(file: descriptor_pb2.FileDescriptorProto, name: str, fields: dict[str, tuple[int, Any, bool]]) -> None:
    message = file.message_type.add(name=name)
    oneof = any(field_name.endswith("_value") for field_name in fields)
    if oneof:
        message.oneof_decl.add(name="value")
    for field_name, (number, kind, repeated) in fields.items():
        added = message.field.add(name=field_name, number=number)
        added.label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
        if isinstance(kind, str):
            added.type, added.type_name = _F.TYPE_MESSAGE, f".forestall.sparkplug.{kind}"
        else:
            added.type = kind
        if field_name.endswith("_value"):
            added.oneof_index = 0


def build_messages() -> tuple[Any, Any]:
    """The message classes Payload and Envelope (the same bytes with the metrics left unparsed)."""
    file = descriptor_pb2.FileDescriptorProto(name="forestall/sparkplug.proto", package="forestall.sparkplug")
    u32, u64, text, flag, opaque = _F.TYPE_UINT32, _F.TYPE_UINT64, _F.TYPE_STRING, _F.TYPE_BOOL, _F.TYPE_BYTES
    head = {"timestamp": (1, u64, False), "seq": (3, u64, False), "uuid": (4, text, False), "body": (5, opaque, False)}
    _message(file, "Envelope", {"metrics": (2, opaque, True)})
    _message(file, "Payload", {**head, "metrics": (2, "Metric", True)})
    _message(
        file,
        "Metric",
        {
            "name": (1, text, False),
            "alias": (2, u64, False),
            "timestamp": (3, u64, False),
            "datatype": (4, u32, False),
            "is_historical": (5, flag, False),
            "is_transient": (6, flag, False),
            "is_null": (7, flag, False),
            "metadata": (8, opaque, False),
            "properties": (9, "PropertySet", False),
            "int_value": (10, u32, False),
            "long_value": (11, u64, False),
            **{name: (number, kind, False) for number, (name, kind) in enumerate(_VALUES.items(), 12)},
            "bytes_value": (16, opaque, False),
            # nested messages of third parties stay opaque: no recursion, nothing built
            "dataset_value": (17, opaque, False),
            "template_value": (18, opaque, False),
            "extension_value": (19, opaque, False),
        },
    )
    _message(file, "PropertySet", {"keys": (1, text, True), "values": (2, "PropertyValue", True)})
    _message(
        file,
        "PropertyValue",
        {
            "type": (1, u32, False),
            "is_null": (2, flag, False),
            "int_value": (3, u32, False),
            "long_value": (4, u64, False),
            **{name: (number, kind, False) for number, (name, kind) in enumerate(_VALUES.items(), 5)},
            "propertyset_value": (9, opaque, False),
            "propertysets_value": (10, opaque, False),
        },
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    classes = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"forestall.sparkplug.{name}"))
        for name in ("Payload", "Envelope")
    ]
    return classes[0], classes[1]
