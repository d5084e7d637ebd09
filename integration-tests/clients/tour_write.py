"""tour_write.py BOOTSTRAP TOPIC CODEC FILE ACKNOWLEDGED KILLED: every line of FILE is one record, through restarts of the broker.
ACKNOWLEDGED grows by one byte for each acknowledged line. The last quarter is held back until the file KILLED exists."""
import os
import sys

from confluent_kafka import Producer

bootstrap, topic, codec, path, acknowledged_path, killed = sys.argv[1:]
producer = Producer({
    "bootstrap.servers": bootstrap, "compression.type": codec, "acks": "all", "enable.idempotence": True,
    "linger.ms": 5, "batch.num.messages": 500, "queue.buffering.max.messages": 4000, "message.timeout.ms": 120000,
    "reconnect.backoff.max.ms": 200, "log_level": 2})
acknowledged = open(acknowledged_path, "wb", buffering=0)
next_line = 0


def delivered(line):
    def callback(error, message):
        global next_line
        if error is not None:
            sys.exit(f"line {line}: {error}")
        if line != next_line:
            sys.exit(f"line {line} was acknowledged, line {next_line} was next")
        next_line += 1
        acknowledged.write(b".")
    return callback


with open(path, "rb") as text:
    hold_at = sum(1 for _ in text) * 3 // 4
    text.seek(0)
    for number, line in enumerate(text):
        while number == hold_at and not os.path.exists(killed):
            producer.poll(0.01)
        while True:
            try:
                producer.produce(topic, line.rstrip(b"\n"), partition=0, on_delivery=delivered(number))
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
left = producer.flush(120)
if left:
    sys.exit(f"{left} lines were not delivered")
