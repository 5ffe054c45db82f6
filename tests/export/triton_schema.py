"""A model's configuration is read as Triton reads it, by the part of its schema that is written."""

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

SCHEMA = {
    "ModelConfig": (
        "name string 1, platform string 2, backend string 17, version_policy ModelVersionPolicy 3, "
        "max_batch_size int32 4, input ModelInput* 5, output ModelOutput* 6, optimization ModelOptimizationPolicy 12, "
        "dynamic_batching ModelDynamicBatching 11, instance_group ModelInstanceGroup* 7, "
        "default_model_filename string 8, parameters ParameterEntry* 14"
    ),
    "ModelInput": "name string 1, data_type DataType 2, format Format 3, dims int64* 4",
    "ModelOutput": "name string 1, data_type DataType 2, dims int64* 3, label_filename string 4",
    "ModelVersionPolicy": "latest Latest 1",
    "Latest": "num_versions uint32 1",
    "ModelDynamicBatching": "preferred_batch_size int32* 1, max_queue_delay_microseconds uint64 2",
    "ModelInstanceGroup": "kind Kind 4, count int32 2",
    "ModelOptimizationPolicy": "execution_accelerators ExecutionAccelerators 4",
    "ExecutionAccelerators": "gpu_execution_accelerator Accelerator* 1, cpu_execution_accelerator Accelerator* 2",
    "Accelerator": "name string 1, parameters TextEntry* 2",
    "ModelParameter": "string_value string 1",
    "ParameterEntry": "key string 1, value ModelParameter 2",
    "TextEntry": "key string 1, value string 2",
}
"""The part of Triton's configuration that is written: triton-inference-server/common, protobuf/model_config.proto at
83adf7c; a ``*`` is a repeated field, a map is what protobuf makes of it, repeated entries. tritonclient has the whole
compiled, but for a protobuf older than onnxruntime's and onnx's."""

ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11},
    "Format": {"FORMAT_NONE": 0, "FORMAT_NHWC": 1, "FORMAT_NCHW": 2},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2},
}


@cache
def model_config() -> Any:
    """The message class of a configuration."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, numbers in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in numbers.items():
            enum.value.add(name=value, number=number)
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            key, kind, number = field.split()
            plain = kind.removesuffix("*")
            added = message.field.add(name=key, number=int(number), label=3 if kind.endswith("*") else 1)
            if plain in SCHEMA or plain in ENUMS:
                added.type = field_type.TYPE_MESSAGE if plain in SCHEMA else field_type.TYPE_ENUM
                added.type_name = f".inference.{plain}"
            else:
                added.type = field_type.Type.Value(f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def read_config(model: Path) -> Any:
    """The configuration of a model of the repository, parsed as Triton parses it."""
    return text_format.Parse((model / "config.pbtxt").read_text(encoding="utf-8"), model_config()())
