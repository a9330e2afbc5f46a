from datetime import timedelta

import replay


def enrich(ctx: replay.ActivityContext, backends: None, name: str) -> str:
    return f"[{name}]"


def greet(ctx: replay.RunContext, name: str) -> str:
    enriched = ctx.exec_activity(enrich, name)
    ctx.sleep(timedelta(milliseconds=100))
    return f"Hello {enriched}"


with replay.connect("sqlite:///hello.db") as client:
    replay.register_workflow(client, "demo", greet)
    replay.register_activity(client, "demo", enrich)
    print("started:", client.run_workflow("demo", greet, "first", "World"))
    print("result:", client.result("demo", greet, "first"))
    for event in client.stream("demo", to_head=True):
        print(event.id, event.type.name, event.key)
