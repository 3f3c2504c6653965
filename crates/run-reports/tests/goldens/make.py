"""An event file by TensorBoard's own record writer and protocol buffers, for the tests of `tensorboard`.

Version: tensorboard 2.21.0. Wall times are fixed, so the bytes do not change. Run: python make.py
"""

import os
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1700000000.25
HERE = os.path.dirname(os.path.abspath(__file__))


def scalar(tag, value):
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def text(tag, content):
    """As torch.utils.tensorboard.summary.text makes it."""
    plugin = SummaryMetadata.PluginData(plugin_name="text")
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[content.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    value = Summary.Value(tag=tag + "/text_summary", metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
    return Summary(value=[value])


events = [
    Event(wall_time=TIME, file_version="brain.Event:2"),
    Event(wall_time=TIME, step=301, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=TIME, step=300, summary=scalar("train/loss", 2.5)),
    Event(wall_time=TIME, step=300, summary=scalar("eval/loss", float("nan"))),
    Event(wall_time=TIME, step=70000, summary=text("train/note", "héllo 你好 " * 20)),
]
with open(os.path.join(HERE, "events.bin"), "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
