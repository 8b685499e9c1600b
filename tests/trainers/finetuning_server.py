"""A fine-tuning service: a real HTTP server in a process of its own that keeps what it knows in a file.

Speaks POST /v1/files, GET /v1/files/{id}/content, POST and GET /v1/fine_tuning/jobs, GET /v1/fine_tuning/jobs/{id}, and
POST /v1/chat/completions for the models that it has trained. Tests say in the file what becomes of things:

- ``faults``: request, such as ``POST jobs`` → answers to give first: a status, ``lose`` (done, but the connection breaks
  before the answer), ``reset`` (not done), ``hang`` (done, and no answer comes) or ``stall`` (not done, and none comes).
- ``ends``: what becomes of each job in turn: ``succeeded``, ``failed``, ``cancelled`` (billed for 30 tokens) or
  ``nameless`` (succeeded, but its model has no name); ``looks``: in how many looks.
- ``serves``: models that answer without having been trained; ``key``: the API key that is needed.

``Service`` starts it, stops it as hard as a power cut, and starts it again where it was.
"""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

STATUSES = ("validating_files", "queued", "running")
CURVE = "step,train_loss,train_accuracy,valid_loss\n1,2.5,0.25,\n2,1.5,0.5,\n3,,,\n4,0.75,0.875,\n"
LOCK = threading.Lock()


class Service:
    """The service and its process; ``with Service(tmp_path) as service``."""

    def __init__(self, folder, **fate):
        self.file = Path(folder) / "service.json"
        self.process = None
        self.port = 0
        fresh = {
            "files": {},
            "jobs": {},
            "requests": [],
            "bodies": [],
            "chats": [],
            "faults": {},
            "ends": [],
            "looks": 3,
            "serves": [],
        }
        self.write({**fresh, "key": None, **fate})

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def state(self):
        return json.loads(self.file.read_text())

    def write(self, state):
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.file)

    def count(self, request):
        return self.state["requests"].count(request)

    def start(self):
        command = [sys.executable, "-S", __file__, str(self.file), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def log_message(self, *_):
        pass

    def send(self, found, status=200):
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message="refused"):
        told = f"{message} {self.headers.get('Authorization', '').removeprefix('Bearer ')}"
        self.send({"error": {"message": told, "code": None, "type": "error", "param": None}}, status)

    def do_GET(self):
        self.serve("GET", b"")

    def do_POST(self):
        self.serve("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def serve(self, verb, body):
        url = urlsplit(self.path)
        parts = [part for part in url.path.split("/")[2:] if part != "fine_tuning"]
        name = f"{verb} {'job' if parts[0] == 'jobs' and parts[1:] else parts[0]}"
        with LOCK:
            state = self.service.state
            state["requests"].append(name)
            faults = state["faults"].get(name, [])
            fault = faults.pop(0) if faults else None
            if state["key"] and self.headers.get("Authorization") != f"Bearer {state['key']}":
                fault = 401
            answer = None
            if fault in (None, "lose", "hang"):
                answer = self.answer(state, verb, parts, body, parse_qs(url.query))
            self.service.write(state)
        if isinstance(fault, int):
            self.refuse(fault, "Incorrect API key provided:" if fault == 401 else "not now")
        elif fault in ("lose", "reset"):
            self.close_connection = True
            self.connection.close()
        elif fault is not None:
            time.sleep(60)
        elif answer is None:
            self.refuse(404, "no such thing")
        else:
            self.send(answer)

    # --- what it does ---

    def answer(self, state, verb, parts, body, query):
        if parts == ["chat", "completions"]:
            return self.chat(state, json.loads(body))
        if parts == ["files"]:
            return self.upload(state, body)
        if parts[0] == "files":
            return base64.b64encode(CURVE.encode()) if parts[1] == "file-result" else None
        if parts == ["jobs"]:
            return self.make(state, json.loads(body)) if verb == "POST" else self.list(state, query)
        return self.look(state, parts[1])

    def upload(self, state, body):
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        parts = {
            p.get_param("name", header="content-disposition"): p
            for p in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
        }
        assert parts["purpose"].get_payload(decode=True) == b"fine-tune"
        text = parts["file"].get_payload(decode=True).decode()
        file_id = f"file-{len(state['files'])}"
        state["files"][file_id] = text
        made = {"object": "file", "bytes": len(text), "created_at": int(time.time()), "purpose": "fine-tune"}
        return {"id": file_id, "filename": parts["file"].get_filename(), "status": "processed", **made}

    def make(self, state, body):
        if body["training_file"] not in state["files"]:
            return None
        state["bodies"].append(body)
        job = {
            "id": f"ftjob-{len(state['jobs'])}", "object": "fine_tuning.job", "created_at": int(time.time()),
            "model": body["model"], "training_file": body["training_file"], "seed": body["seed"],
            "status": STATUSES[0], "organization_id": "org", "result_files": [], "hyperparameters": {},
            "fine_tuned_model": None, "trained_tokens": None, "error": None, "method": body["method"],
        }  # fmt: skip
        state["jobs"][job["id"]] = {"job": job, "looks": 0, "suffix": body.get("suffix", "")}
        return job

    def look(self, state, job_id):
        kept = state["jobs"].get(job_id)
        if kept is None:
            return None
        job = kept["job"]
        if job["status"] in STATUSES:
            kept["looks"] += 1
            job["status"] = STATUSES[min(kept["looks"], len(STATUSES) - 1)]
            if kept["looks"] > state["looks"]:
                self.end(state, job, kept["suffix"])
        return job

    def end(self, state, job, suffix):
        job["status"] = state["ends"].pop(0) if state["ends"] else "succeeded"
        if job["status"] == "cancelled":
            job["trained_tokens"] = 30
        if job["status"] == "nameless":
            job["status"] = "succeeded"
        elif job["status"] == "failed":
            job["error"] = {
                "code": "bad_data",
                "message": "The job failed:\nthe file is too small",
                "param": "training_file",
            }
        elif job["status"] == "succeeded":
            method = job["method"]
            n_epochs = method[method["type"]]["hyperparameters"]["n_epochs"]
            job["trained_tokens"] = 10 * n_epochs * len(state["files"][job["training_file"]].splitlines())
            job["fine_tuned_model"] = f"ft:{job['model']}:org:{suffix}:{job['id'][-1]}"
            job["result_files"] = ["file-result"]

    def list(self, state, query):
        """The newest first, in pages of two whatever is asked for."""
        ids = list(state["jobs"])[::-1]
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        page = [state["jobs"][i]["job"] for i in ids[start : start + 2]]
        return {"object": "list", "data": page, "has_more": start + 2 < len(ids)}

    def chat(self, state, body):
        if body["model"] not in {
            *state["serves"],
            *(kept["job"]["fine_tuned_model"] for kept in state["jobs"].values()),
        }:
            return None
        state["chats"].append(body)
        message = {"role": "assistant", "content": f"{body['model']} says: harmless .", "refusal": None}
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        }  # fmt: skip


def main(file, port):
    service = Service.__new__(Service)
    service.file = Path(file)
    handler = type("Bound", (Handler,), {"service": service})
    ThreadingHTTPServer.allow_reuse_address = True
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
    print(server.server_address[1], flush=True)
    server.serve_forever(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
