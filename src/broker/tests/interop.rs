//! A client library that nobody here wrote.

use rumqttc::{AsyncClient, Event as ClientEvent, EventLoop, MqttOptions, Packet as ClientPacket, QoS as ClientQoS};

use super::*;

fn client(bed: &Bed, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", bed.address.port());
    options.set_clean_session(false).set_keep_alive(Duration::from_secs(5));
    AsyncClient::new(options, 1000)
}

#[tokio::test]
async fn rumqttc_publishes_and_receives_at_every_qos() {
    let bed = Bed::open().await;
    let (meter, mut loop_of_meter) = client(&bed, "m1");
    let (watcher, mut loop_of_watcher) = client(&bed, "watcher");
    watcher.subscribe("iot/+/telemetry", ClientQoS::ExactlyOnce).await.unwrap();
    let mut seen = Vec::new();
    let watching = async {
        while seen.len() < 90 {
            match loop_of_watcher.poll().await.unwrap() {
                ClientEvent::Incoming(ClientPacket::SubAck(_)) => {
                    for n in 0..90_u32 {
                        let qos =
                            [ClientQoS::AtMostOnce, ClientQoS::AtLeastOnce, ClientQoS::ExactlyOnce][n as usize % 3];
                        meter.publish("iot/m1/telemetry", qos, false, n.to_string()).await.unwrap();
                    }
                }
                ClientEvent::Incoming(ClientPacket::Publish(p)) => {
                    seen.push(String::from_utf8_lossy(&p.payload).into_owned())
                }
                _ => {}
            }
        }
    };
    let (mut acknowledged, mut completed) = (0, 0);
    let publishing = async {
        while acknowledged < 30 || completed < 30 {
            match loop_of_meter.poll().await.unwrap() {
                ClientEvent::Incoming(ClientPacket::PubAck(_)) => acknowledged += 1,
                ClientEvent::Incoming(ClientPacket::PubComp(_)) => completed += 1,
                _ => {}
            }
        }
    };
    let both = async { tokio::join!(watching, publishing) };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("in time");
    assert_eq!(seen, (0..90).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(bed.journal.stored().len(), 90);
}
