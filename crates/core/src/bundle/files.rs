//! What stands in the files that each container of a pod gets, in the kubelet's form.

/// `/etc/hosts` of a pod with a network of its own.
#[must_use]
pub fn hosts(hostname: &str) -> Vec<u8> {
    let mut text = "# Kubernetes-managed hosts file.\n".to_owned();
    for (address, names) in [
        ("127.0.0.1", "localhost"),
        ("::1", "localhost ip6-localhost ip6-loopback"),
        ("fe00::0", "ip6-localnet"),
        ("fe00::0", "ip6-mcastprefix"),
        ("fe00::1", "ip6-allnodes"),
        ("fe00::2", "ip6-allrouters"),
        ("127.0.0.1", hostname),
    ] {
        text.extend([address, "\t", names, "\n"]);
    }
    text.into_bytes()
}

/// `/etc/hosts` of a pod with `hostNetwork`, made of the node's.
#[must_use]
pub fn node_hosts(node: &[u8]) -> Vec<u8> {
    [b"# Kubernetes-managed hosts file (host network).\n", node].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_knows_itself_and_the_loopback_device() {
        let text = String::from_utf8(hosts("web")).unwrap();
        assert!(
            text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"),
            "{text}"
        );
        assert!(text.ends_with("\n127.0.0.1\tweb\n"), "{text}");
    }

    #[test]
    fn with_the_nodes_network_it_knows_what_the_node_does() {
        let node = b"10.0.0.1 gate\n\xff\n";
        let text = node_hosts(node);
        assert!(text.ends_with(node) && text.starts_with(b"# Kubernetes-managed hosts file (host network).\n"));
    }
}
