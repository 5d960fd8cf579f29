//! Commands over HTTP: how many may wait, who sees what of them, who comes too late.

use serde_json::{Map, Value, json};

use super::MAX_WAITING;
use crate::api::testing::{Bench, NOW};
use crate::domain::command::CommandStatus;
use crate::domain::{CommandId, DeviceId};
use crate::live::Event;
use crate::store::{Command, CommandChange, NewCommand, Role, Store};

fn give(bench: &Bench, cmd: &str, params: Map<String, Value>) -> Command {
    let new = NewCommand {
        cmd_id: CommandId::random(),
        device: DeviceId::parse("m-1").unwrap(),
        cmd: cmd.into(),
        params,
        created_at: NOW,
        created_by: "rollout:1".into(),
        expires_at: NOW.plus_us(60_000_000),
    };
    bench.store.create_command(&new).unwrap().unwrap()
}

#[actix_web::test]
async fn a_device_for_which_many_commands_wait_is_given_another_when_one_is_out_of_the_way() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let commands: Vec<Command> = (0..MAX_WAITING).map(|_| give(&bench, "reboot", Map::new())).collect();
    let advance = |of: &Command, to| {
        let change = CommandChange { cmd_id: of.cmd_id, device: None, to, detail: None, at: NOW };
        bench.store.advance_command(&change).unwrap().unwrap();
    };
    let ask = async || bench.post("/api/devices/m-1/commands", json!({"cmd": "reboot"})).await;
    advance(&commands[0], CommandStatus::Sent);
    let refused = ask().await;
    assert_eq!(refused.status, 409);
    assert!(refused.json()["detail"].as_str().unwrap().starts_with("1000 commands wait for this device already"));
    advance(&commands[0], CommandStatus::Delivered);
    assert_eq!([ask().await.status, ask().await.status], [202, 409]);
    assert_eq!(bench.post("/api/devices/m-2/commands", json!({"cmd": "reboot"})).await.status, 404);
}

#[actix_web::test]
async fn the_link_to_an_image_is_whole_for_those_only_who_may_fetch_every_image() {
    let bench = Bench::new(false).with_live();
    let admin = bench.add_key(Role::Admin, None);
    let device = Some(json!({"device_id": "m-1", "device_name": "M"}));
    assert_eq!(bench.send("POST", "/api/devices", device, &[("x-api-key", &admin)]).await.status, 201);
    let (address, secret) = ("http://meters.example/api/firmware/7/download", "?expires=9&signature=ab");
    let params = json!({"fw_version": "2", "fw_url": format!("{address}{secret}")}).as_object().unwrap().clone();
    let command = give(&bench, "start_ota", params);
    let one = format!("/api/commands/{}", command.cmd_id);
    let check = async |key: &str, is_whole: bool| {
        let expected = json!(format!("{address}{}", if is_whole { secret } else { "" }));
        for (path, at) in [(one.as_str(), "/params/fw_url"), ("/api/devices/m-1/commands", "/0/params/fw_url")] {
            let shown = bench.send("GET", path, None, &[("x-api-key", key)]).await.json();
            assert_eq!(shown.pointer(at), Some(&expected), "{path}");
        }
    };
    check(&admin, true).await;
    check(&bench.add_key(Role::Admin, Some("m-")), false).await;
    check(&bench.add_key(Role::Operator, None), false).await;
    check(&bench.add_key(Role::Viewer, None), false).await;
    let told = bench.listen("/api/stream", &[("x-api-key", &admin)], vec![Event::Command(command)], "fw_url").await;
    let told = String::from_utf8(told.bytes).unwrap();
    assert!(told.contains(address) && !told.contains("signature="), "{told}");
}

#[actix_web::test]
async fn of_two_who_acknowledge_what_both_have_read_one_is_too_late() {
    let bench = Bench::new(true);
    bench.add_device("m-1").await;
    let path = format!("/api/commands/{}", give(&bench, "reboot", Map::new()).cmd_id);
    let tag = bench.get(&path).await.header("etag").to_owned();
    let acknowledge = async || {
        let body = Some(json!({"result": "accepted"}));
        bench.send("PUT", &format!("{path}/ack"), body, &[("if-match", &tag)]).await.status
    };
    // Both have seen the command before either changes it.
    let held = bench.store.hold();
    let (one, other, ()) = tokio::join!(acknowledge(), acknowledge(), async { drop(held) });
    assert_eq!((one.min(other), one.max(other)), (200, 412));
}
