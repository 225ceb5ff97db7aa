//! Who may speak with the control plane: one authority, a certificate for the server, one for its administrator.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// Writes `ca.crt`, `server.{crt,key}` and `accounts.{key,pub}` into a directory; gives the kubeconfig of an administrator.
pub(super) fn write(dir: &Path, server: &str) -> String {
    let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "the tests' cluster");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    put("ca.crt", &authority);

    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    put("server.crt", &params.signed_by(&key, &issuer).unwrap().pem());
    put("server.key", &key.serialize_pem());

    let accounts = KeyPair::generate().unwrap();
    put("accounts.key", &accounts.serialize_pem());
    put("accounts.pub", &accounts.public_key_pem());

    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "administrator");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    kubeconfig(server, &authority, &certificate, &key.serialize_pem())
}

fn kubeconfig(server: &str, authority: &str, certificate: &str, key: &str) -> String {
    let [authority, certificate, key] = [authority, certificate, key].map(|pem| BASE64_STANDARD.encode(pem));
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         contexts: [{{ name: test, context: {{ cluster: test, user: administrator }} }}]\n\
         clusters: [{{ name: test, cluster: {{ server: '{server}', certificate-authority-data: {authority} }} }}]\n\
         users: [{{ name: administrator, user: {{ client-certificate-data: {certificate}, client-key-data: {key} }} }}]\n"
    )
}
