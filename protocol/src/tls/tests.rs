//! Who gets in: every refused certificate over a real handshake, in memory.

use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use time::Duration;

use super::pki::{Leaf, Pki, UID};
use super::*;

/// Shakes hands and tells what each side thinks of it.
fn shake(client: ClientConfig, server: ServerConfig) -> Result<(), rustls::Error> {
    let name = MANAGER_SERVER_NAME.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..4 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        let met = server.process_new_packets();
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        // The alert of the other side is the worse account: the side that refused comes first.
        met?;
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    Ok(())
}

fn tunnel(pki: &Pki, agent: &Credentials, manager: &Credentials) -> Result<(), rustls::Error> {
    let server = tunnel_server(ServerCertificate::new(manager).unwrap(), &pki.bundle, &pki.fleet).unwrap();
    shake(tunnel_client(agent, &pki.bundle, &pki.fleet).unwrap(), server)
}

#[track_caller]
fn refused(result: Result<(), rustls::Error>, words: &str) {
    let error = result.expect_err("the handshake should be refused").to_string();
    assert!(error.contains(words), "{error:?} should say {words:?}");
}

#[test]
fn agent_and_manager_of_one_fleet_meet() {
    let pki = Pki::new();
    tunnel(&pki, &pki.agent(), &pki.manager()).unwrap();
}

#[test]
fn an_agent_of_another_authority_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    refused(tunnel(&pki, &other.agent(), &pki.manager()), "BadSignature");
}

#[test]
fn a_manager_of_another_authority_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    refused(tunnel(&pki, &pki.agent(), &other.manager()), "BadSignature");
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let pki = Pki::new();
    let expired = pki.sign(&Leaf { from: Duration::hours(-2), until: Duration::hours(-1), ..Leaf::agent(&pki) });
    refused(tunnel(&pki, &expired, &pki.manager()), "xpired");
    let early = pki.sign(&Leaf { from: Duration::hours(1), until: Duration::hours(2), ..Leaf::agent(&pki) });
    refused(tunnel(&pki, &early, &pki.manager()), "not valid yet");
}

#[test]
fn a_certificate_for_the_other_end_is_refused() {
    let pki = Pki::new();
    let usage = |usage, leaf: Leaf| pki.sign(&Leaf { usage, ..leaf });
    let server_only = usage(ExtendedKeyUsagePurpose::ServerAuth, Leaf::agent(&pki));
    refused(tunnel(&pki, &server_only, &pki.manager()), "extended key usage");
    let client_only = usage(ExtendedKeyUsagePurpose::ClientAuth, Leaf::manager(&pki));
    refused(tunnel(&pki, &pki.agent(), &client_only), "extended key usage");
}

#[test]
fn a_certificate_of_the_right_authority_with_the_wrong_name_is_refused() {
    let pki = Pki::new();
    for uris in [
        vec![],
        vec!["https://test.example/manager".to_owned()],
        vec![format!("spiffe://other.example/cluster/{UID}/agent")],
        vec![pki.fleet.manager().to_string()],
        vec![pki.fleet.agent(&UID.parse().unwrap()).to_string(), "spiffe://test.example/manager".to_owned()],
    ] {
        let odd = pki.sign(&Leaf { uris: uris.clone(), ..Leaf::agent(&pki) });
        assert!(tunnel(&pki, &odd, &pki.manager()).is_err(), "an agent named {uris:?} should be refused");
    }
    let agent_as_manager = pki.sign(&Leaf { uris: Leaf::agent(&pki).uris, ..Leaf::manager(&pki) });
    refused(tunnel(&pki, &pki.agent(), &agent_as_manager), "expected spiffe://test.example/manager");
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let pki = Pki::new();
    let server = tunnel_server(ServerCertificate::new(&pki.manager()).unwrap(), &pki.bundle, &pki.fleet).unwrap();
    let mut client = enrolment_client(&pki.bundle, &pki.fleet);
    client.alpn_protocols = vec![ALPN.to_vec()];
    refused(shake(client, server), "no certificates");
}

#[test]
fn another_protocol_is_refused() {
    let pki = Pki::new();
    let server = tunnel_server(ServerCertificate::new(&pki.manager()).unwrap(), &pki.bundle, &pki.fleet).unwrap();
    let mut client = tunnel_client(&pki.agent(), &pki.bundle, &pki.fleet).unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    refused(shake(client, server), "any known protocol");
}

#[test]
fn nothing_is_resumed_and_nothing_is_early() {
    let pki = Pki::new();
    let own = ServerCertificate::new(&pki.manager()).unwrap();
    for server in [tunnel_server(Arc::clone(&own), &pki.bundle, &pki.fleet).unwrap(), https_server(own)] {
        assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
        assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    }
}

#[test]
fn a_server_certificate_is_replaced_while_it_serves() {
    let (old, new) = (Pki::new(), Pki::new());
    let own = ServerCertificate::new(&old.manager()).unwrap();
    let server = https_server(Arc::clone(&own));
    let mut client = enrolment_client(&new.bundle, &new.fleet);
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(shake(client.clone(), server.clone()).is_err());
    own.replace(&new.manager()).unwrap();
    shake(client, server).unwrap();
}

#[test]
fn a_pin_picks_its_certificate_out_of_a_bundle() {
    let (ours, other) = (Pki::new(), Pki::new());
    let both = [ours.bundle.certificates(), other.bundle.certificates()].concat();
    let both = CaBundle::new(both).unwrap();
    let pin: CaPin = CaPin::of(&ours.bundle.certificates()[0]).unwrap().to_string().parse().unwrap();
    assert_eq!(both.pinned(&pin).unwrap().certificates(), ours.bundle.certificates());
    assert!(matches!(other.bundle.pinned(&pin), Err(Error::PinMismatch(_))));
    for bad in ["", "sha256:", "sha256:zz", "sha1:00", &format!("sha256:{}", "é".repeat(32))] {
        assert!(bad.parse::<CaPin>().is_err(), "{bad}");
    }
}

#[test]
fn an_identity_is_read_from_its_certificate() {
    let pki = Pki::new();
    let identity = pki.agent().identity().unwrap();
    assert_eq!(identity.id, pki.fleet.agent(&UID.parse().unwrap()));
    assert_eq!(identity.serial.as_str(), "4a0007");
    assert_eq!(identity.serial.as_str().parse(), Ok(identity.serial.clone()));
    assert!(identity.not_before < crate::clock::now() && crate::clock::now() < identity.not_after);
    for bad in ["", "0a", "xyz", &"a".repeat(41)] {
        assert!(bad.parse::<Serial>().is_err(), "{bad}");
    }
}

#[test]
fn no_key_shows_in_debug() {
    let pki = Pki::new();
    let own = pki.manager();
    let shown = format!("{own:?} {:?}", ServerCertificate::new(&own).unwrap());
    assert!(shown.contains("[redacted]") && shown.len() < 200, "{shown}");
}
