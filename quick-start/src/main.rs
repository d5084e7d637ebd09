//! The README's first program: writes three records and reads them as a member of a group.

use ottla_client_sdk::{Client, Error, NewTopic, Record, StartAt};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = std::env::var("OTTLA_BOOTSTRAP").unwrap_or("127.0.0.1:9092".to_owned());
    let client = Client::connect(&address).await?;
    client.admin().create_topic(&NewTopic::new("greetings").partitions(3)).await?;

    let producer = client.producer().start().await?;
    for (language, greeting) in [("en", "hello"), ("de", "hallo"), ("cs", "ahoj")] {
        let delivery = producer.send(Record::to("greetings").key(language).value(greeting)).await?;
        let receipt = delivery.await?;
        println!("{greeting} is in partition {} at {:?}", receipt.partition, receipt.offset);
    }
    producer.close().await?;

    let group = client.consumer().start_at(StartAt::Beginning).group("readers").subscribe(["greetings"]);
    let mut consumer = group.start()?;
    for _ in 0..3 {
        let record = consumer.recv().await?;
        println!("read {}", String::from_utf8_lossy(record.value().unwrap_or_default()));
    }
    // Commits what was read, and leaves the group.
    consumer.close().await
}
