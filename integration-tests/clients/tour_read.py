"""tour_read.py BOOTSTRAP TOPIC COUNT: prints the values of partition 0 from its beginning to its end, one a line; they must be
COUNT records with offsets that leave out none."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def main():
    at = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, fetch_max_bytes=50 << 20, max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    consumer.assign([at])
    consumer.seek(at, 0)
    end = (await consumer.end_offsets([at]))[at]
    if end != count:
        sys.exit(f"{topic}: the end offset is {end}, {count} records were written")
    next_offset = 0
    while next_offset < end:
        got = await asyncio.wait_for(consumer.getmany(at, timeout_ms=1000, max_records=20000), 30)
        for message in got.get(at, []):
            if message.offset != next_offset:
                sys.exit(f"{topic}: offset {message.offset} came, {next_offset} was next")
            next_offset += 1
            sys.stdout.buffer.write(message.value + b"\n")
    await consumer.stop()


asyncio.run(main())
