from datetime import timedelta

from google.protobuf.wrappers_pb2 import StringValue

import replay


def enrich(ctx: replay.ActivityContext, backends: None, name: StringValue) -> StringValue:
    return StringValue(value=f"[{name.value}]")


def greet(ctx: replay.RunContext, name: StringValue) -> None:
    enriched = ctx.exec_activity(enrich, name)
    ctx.sleep(timedelta(milliseconds=100))
    ctx.emit_output("greeting", StringValue(value=f"Hello {enriched.value}"))


with replay.connect("sqlite:///hello.db") as client:
    replay.register_workflow(client, "demo", greet)
    replay.register_activity(client, "demo", enrich)
    print("started:", client.run_workflow("demo", "greet", "first", StringValue(value="World")))
    client.await_completion("demo", "greet", "first")
    for event in client.stream("demo", to_head=True):
        print(event.id, event.type.name, event.key)
