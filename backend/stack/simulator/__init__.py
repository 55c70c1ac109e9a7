"""A provider that speaks OpenAI chat completions over real HTTP and fails exactly as it is told to.

Start it with `python -m backend.stack.simulator --port 0`; its first line of output is its port.

- `POST /v1/chat/completions`: plain and streamed, scripted per model name.
- `PUT /_control/models/{model}` with `{"script": [behaviour, ...], "default": behaviour}`: each call consumes
  the next of `script`, then `default` for ever. The behaviours are in `behaviours.py`.
- `POST /_control/models/{model}/release`: the calls that stall now answer.
- `GET` and `DELETE /_control/journal?model=X`: what was received and how it ended.
- `GET /_control/health`.
"""
