//! The fields of a `v1` Pod: data for [`super::schema`].
//!
//! Every field of Kubernetes 1.35 is here, done or not; a test holds the names against the API's types.

use super::schema::{Field, LARGE, Object, Support, Type};

pub(super) const fn done(name: &'static str, accepted: Type) -> Field {
    Field { name, required: false, support: Support::Done(accepted) }
}

pub(super) const fn required(name: &'static str, accepted: Type) -> Field {
    Field { name, required: true, support: Support::Done(accepted) }
}

pub(super) const fn no_effect(name: &'static str, accepted: Type, why: &'static str) -> Field {
    Field { name, required: false, support: Support::NoEffect(accepted, why) }
}

pub(super) const fn later(name: &'static str, advice: &'static str) -> Field {
    Field { name, required: false, support: Support::Later(advice) }
}

pub(super) const fn never(name: &'static str, reason: &'static str) -> Field {
    Field { name, required: false, support: Support::Never(reason) }
}

pub(super) const fn server(name: &'static str) -> Field {
    Field {
        name,
        required: false,
        support: Support::Server("remove it, and the other fields that `kubectl get -o yaml` adds"),
    }
}

const STRINGS: Type = Type::List(&Type::String);
const ID: Type = Type::Integer(0, LARGE);
const COUNT: Type = Type::Integer(1, LARGE);
/// Longer ones overflow a clock of 64-bit nanoseconds.
const SECONDS: Type = Type::Integer(0, 9_000_000_000);
const REMOVE: &str = "remove it";

pub(super) static POD: Object = Object {
    fields: &[
        required("apiVersion", Type::String),
        required("kind", Type::String),
        required("metadata", Type::Object(&METADATA)),
        required("spec", Type::Object(&SPEC)),
        server("status"),
    ],
};

pub(super) static METADATA: Object = Object {
    fields: &[
        required("name", Type::String),
        done("namespace", Type::String),
        done("labels", Type::Strings),
        done("annotations", Type::Strings),
        later("generateName", "give a name"),
        later("finalizers", REMOVE),
        later("ownerReferences", REMOVE),
        server("creationTimestamp"),
        server("deletionGracePeriodSeconds"),
        server("deletionTimestamp"),
        server("generation"),
        server("managedFields"),
        server("resourceVersion"),
        server("selfLink"),
        server("uid"),
    ],
};

const NO_API_SERVER: &str = "there is no API server whose objects it could name; remove it";
const NO_SCHEDULER: &str = "there is no scheduler, the pod runs on the node whose directory holds it; remove it";

pub(super) static SPEC: Object = Object {
    fields: &[
        required("containers", Type::List(&Type::Object(&CONTAINER))),
        done("initContainers", Type::List(&Type::Object(&CONTAINER))),
        done("volumes", Type::List(&Type::Object(&VOLUME))),
        done("restartPolicy", Type::Word(&["Always", "OnFailure", "Never"], &[])),
        done("terminationGracePeriodSeconds", SECONDS),
        done("activeDeadlineSeconds", COUNT),
        done("hostname", Type::String),
        done("runtimeClassName", Type::String),
        done("hostNetwork", Type::Bool),
        done("hostPID", Type::Bool),
        done("hostIPC", Type::Bool),
        done("hostUsers", Type::BoolOnly(true)),
        done("shareProcessNamespace", Type::BoolOnly(false)),
        done("readinessGates", Type::List(&Type::Object(&READINESS_GATE))),
        done("setHostnameAsFQDN", Type::BoolOnly(false)),
        done("securityContext", Type::Object(&POD_SECURITY)),
        no_effect("enableServiceLinks", Type::Bool, "there are no services whose variables could be set"),
        no_effect(
            "automountServiceAccountToken",
            Type::BoolOnly(false),
            "there are no service accounts, nothing is mounted in any case",
        ),
        no_effect(
            "dnsPolicy",
            Type::Word(&["Default", "ClusterFirst", "ClusterFirstWithHostNet"], &["None"]),
            "there is no cluster DNS, the node's resolv.conf is used",
        ),
        no_effect("tolerations", Type::List(&Type::Object(&TOLERATION)), "the node has no taints"),
        no_effect(
            "schedulerName",
            Type::Word(&["default-scheduler"], &[]),
            "there is no scheduler, the pod runs on the node whose directory holds it",
        ),
        done("os", Type::Object(&OS)),
        later("affinity", NO_SCHEDULER),
        later("nodeName", NO_SCHEDULER),
        later("nodeSelector", NO_SCHEDULER),
        later("preemptionPolicy", REMOVE),
        later("priority", REMOVE),
        later("priorityClassName", REMOVE),
        later("schedulingGates", NO_SCHEDULER),
        later("topologySpreadConstraints", NO_SCHEDULER),
        later("workloadRef", NO_SCHEDULER),
        later("dnsConfig", "remove it, the node's resolv.conf is used"),
        later("ephemeralContainers", REMOVE),
        later("hostAliases", REMOVE),
        later("hostnameOverride", "use hostname"),
        later("imagePullSecrets", NO_API_SERVER),
        later("overhead", REMOVE),
        later("resourceClaims", NO_API_SERVER),
        later("resources", "give resources to the containers"),
        later("serviceAccount", NO_API_SERVER),
        later("serviceAccountName", NO_API_SERVER),
        later("subdomain", REMOVE),
    ],
};

static READINESS_GATE: Object = Object { fields: &[required("conditionType", Type::String)] };

static OS: Object = Object { fields: &[required("name", Type::Word(&["linux"], &["windows"]))] };

static TOLERATION: Object = Object {
    fields: &[
        done("effect", Type::Word(&["", "NoSchedule", "PreferNoSchedule", "NoExecute"], &[])),
        done("key", Type::String),
        done("operator", Type::Word(&["Exists", "Equal", "Lt", "Gt"], &[])),
        done("tolerationSeconds", Type::Integer(i64::MIN, i64::MAX)),
        done("value", Type::String),
    ],
};

pub(super) static POD_SECURITY: Object = Object {
    fields: &[
        done("runAsUser", ID),
        done("runAsGroup", ID),
        done("runAsNonRoot", Type::Bool),
        done("supplementalGroups", Type::List(&ID)),
        done("supplementalGroupsPolicy", Type::Word(&["Merge"], &["Strict"])),
        done("seccompProfile", Type::Object(&SECCOMP)),
        later("appArmorProfile", REMOVE),
        later("fsGroup", "remove it, set ownership from an init container"),
        later("fsGroupChangePolicy", REMOVE),
        later("seLinuxChangePolicy", REMOVE),
        later("seLinuxOptions", REMOVE),
        later("sysctls", "remove it, set them on the node"),
        later("windowsOptions", REMOVE),
    ],
};

static SECCOMP: Object = Object {
    fields: &[
        required("type", Type::Word(&["RuntimeDefault", "Unconfined"], &["Localhost"])),
        later("localhostProfile", "remove it and use type RuntimeDefault"),
    ],
};

pub(super) static CONTAINER: Object = Object {
    fields: &[
        required("name", Type::String),
        required("image", Type::String),
        done("imagePullPolicy", Type::Word(&["Always", "IfNotPresent", "Never"], &[])),
        done("command", STRINGS),
        done("args", STRINGS),
        done("workingDir", Type::String),
        done("env", Type::List(&Type::Object(&ENV))),
        done("ports", Type::List(&Type::Object(&PORT))),
        done("resources", Type::Object(&RESOURCES)),
        done("volumeMounts", Type::List(&Type::Object(&MOUNT))),
        done("startupProbe", Type::Object(&PROBE)),
        done("readinessProbe", Type::Object(&PROBE)),
        done("restartPolicy", Type::Word(&["Always", "OnFailure", "Never"], &[])),
        done("securityContext", Type::Object(&SECURITY)),
        done("stdin", Type::BoolOnly(false)),
        done("stdinOnce", Type::BoolOnly(false)),
        done("tty", Type::BoolOnly(false)),
        done("livenessProbe", Type::Object(&PROBE)),
        done("lifecycle", Type::Object(&LIFECYCLE)),
        done("restartPolicyRules", Type::List(&Type::Object(&RESTART_RULE))),
        done("terminationMessagePath", Type::String),
        done("terminationMessagePolicy", Type::Word(&["File", "FallbackToLogsOnError"], &[])),
        later("envFrom", "write the variables into env"),
        later("resizePolicy", REMOVE),
        later("volumeDevices", "use a hostPath volume"),
    ],
};

pub(super) static ENV: Object = Object {
    fields: &[
        required("name", Type::String),
        done("value", Type::String),
        later("valueFrom", "write the value into value"),
    ],
};

pub(super) static PORT: Object = Object {
    fields: &[
        required("containerPort", Type::Integer(1, 65535)),
        done("name", Type::String),
        done("protocol", Type::Word(&["TCP", "UDP", "SCTP"], &[])),
        done("hostPort", Type::Integer(1, 65535)),
        later("hostIP", REMOVE),
    ],
};

pub(super) static RESOURCES: Object = Object {
    fields: &[done("limits", Type::Amounts), done("requests", Type::Amounts), later("claims", NO_API_SERVER)],
};

pub(super) static MOUNT: Object = Object {
    fields: &[
        required("name", Type::String),
        required("mountPath", Type::String),
        done("readOnly", Type::Bool),
        done("subPath", Type::String),
        done("mountPropagation", Type::Word(&["None"], &["HostToContainer", "Bidirectional"])),
        done("recursiveReadOnly", Type::Word(&["Disabled"], &["IfPossible", "Enabled"])),
        later("subPathExpr", "use subPath"),
    ],
};

pub(super) static PROBE: Object = Object {
    fields: &[
        done("exec", Type::Object(&EXEC)),
        done("httpGet", Type::Object(&HTTP_GET)),
        done("tcpSocket", Type::Object(&TCP_SOCKET)),
        done("grpc", Type::Object(&GRPC)),
        done("initialDelaySeconds", ID),
        done("periodSeconds", COUNT),
        done("timeoutSeconds", COUNT),
        done("successThreshold", COUNT),
        done("failureThreshold", COUNT),
        done("terminationGracePeriodSeconds", Type::Integer(1, 9_000_000_000)),
    ],
};

pub(super) static GRPC: Object =
    Object { fields: &[required("port", Type::Integer(1, 65535)), done("service", Type::String)] };

pub(super) static LIFECYCLE: Object = Object {
    fields: &[
        done("postStart", Type::Object(&LIFECYCLE_HANDLER)),
        done("preStop", Type::Object(&LIFECYCLE_HANDLER)),
        done("stopSignal", Type::String),
    ],
};

static LIFECYCLE_HANDLER: Object = Object {
    fields: &[
        done("exec", Type::Object(&EXEC)),
        done("httpGet", Type::Object(&HTTP_GET)),
        done("sleep", Type::Object(&SLEEP)),
        done("tcpSocket", Type::Object(&TCP_SOCKET)),
    ],
};

static SLEEP: Object = Object { fields: &[required("seconds", SECONDS)] };

pub(super) static RESTART_RULE: Object = Object {
    fields: &[
        required("action", Type::Word(&["Restart", "RestartAllContainers"], &[])),
        required("exitCodes", Type::Object(&EXIT_CODES)),
    ],
};

static EXIT_CODES: Object = Object {
    fields: &[
        required("operator", Type::Word(&["In", "NotIn"], &[])),
        required("values", Type::List(&Type::Integer(0, 255))),
    ],
};

pub(super) static EXEC: Object = Object { fields: &[required("command", STRINGS)] };

pub(super) static HTTP_GET: Object = Object {
    fields: &[
        required("port", Type::Port),
        done("path", Type::String),
        done("host", Type::String),
        done("scheme", Type::Word(&["HTTP", "HTTPS"], &[])),
        done("httpHeaders", Type::List(&Type::Object(&HEADER))),
    ],
};

static HEADER: Object = Object { fields: &[required("name", Type::String), required("value", Type::String)] };

pub(super) static TCP_SOCKET: Object = Object { fields: &[required("port", Type::Port), done("host", Type::String)] };

pub(super) static SECURITY: Object = Object {
    fields: &[
        done("runAsUser", ID),
        done("runAsGroup", ID),
        done("runAsNonRoot", Type::Bool),
        done("privileged", Type::Bool),
        done("allowPrivilegeEscalation", Type::Bool),
        done("readOnlyRootFilesystem", Type::Bool),
        done("capabilities", Type::Object(&CAPABILITIES)),
        done("seccompProfile", Type::Object(&SECCOMP)),
        done("procMount", Type::Word(&["Default"], &["Unmasked"])),
        later("appArmorProfile", REMOVE),
        later("seLinuxOptions", REMOVE),
        later("windowsOptions", REMOVE),
    ],
};

static CAPABILITIES: Object = Object { fields: &[done("add", STRINGS), done("drop", STRINGS)] };

const VOLUMES: &str = "accepted: emptyDir, hostPath";

pub(super) static VOLUME: Object = Object {
    fields: &[
        required("name", Type::String),
        done("emptyDir", Type::Object(&EMPTY_DIR)),
        done("hostPath", Type::Object(&HOST_PATH)),
        later("awsElasticBlockStore", VOLUMES),
        later("azureDisk", VOLUMES),
        later("azureFile", VOLUMES),
        later("cephfs", VOLUMES),
        later("cinder", VOLUMES),
        later("configMap", VOLUMES),
        later("csi", VOLUMES),
        later("downwardAPI", VOLUMES),
        later("ephemeral", VOLUMES),
        later("fc", VOLUMES),
        later("flexVolume", VOLUMES),
        later("flocker", VOLUMES),
        later("gcePersistentDisk", VOLUMES),
        later("gitRepo", VOLUMES),
        later("glusterfs", VOLUMES),
        later("image", VOLUMES),
        later("iscsi", VOLUMES),
        later("nfs", VOLUMES),
        later("persistentVolumeClaim", VOLUMES),
        later("photonPersistentDisk", VOLUMES),
        later("portworxVolume", VOLUMES),
        later("projected", VOLUMES),
        later("quobyte", VOLUMES),
        later("rbd", VOLUMES),
        later("scaleIO", VOLUMES),
        later("secret", VOLUMES),
        later("storageos", VOLUMES),
        later("vsphereVolume", VOLUMES),
    ],
};

pub(super) static EMPTY_DIR: Object = Object {
    fields: &[
        done("medium", Type::Word(&["", "Memory"], &["HugePages", "HugePages-2Mi", "HugePages-1Gi"])),
        done("sizeLimit", Type::Quantity),
    ],
};

pub(super) static HOST_PATH: Object = Object {
    fields: &[
        required("path", Type::String),
        done(
            "type",
            Type::Word(
                &["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"],
                &[],
            ),
        ),
    ],
};

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::core::v1;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde::de::value::Error;
    use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

    use super::*;

    /// Takes nothing in; learns the names of the fields that a type would take.
    struct Fields(Vec<&'static str>);

    impl<'de> Deserializer<'de> for &mut Fields {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            self.0 = fields.to_vec();
            Err(Error::custom("only the names are wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    pub(in crate::manifest) fn compare<'de, T: Deserialize<'de>>(object: &Object) {
        let mut fields = Fields(Vec::new());
        assert!(T::deserialize(&mut fields).is_err());
        let mut api = fields.0;
        let mut ours: Vec<&str> = object.fields.iter().map(|f| f.name).collect();
        api.sort_unstable();
        ours.sort_unstable();
        assert!(!api.is_empty(), "{}", std::any::type_name::<T>());
        assert_eq!(ours, api, "{}", std::any::type_name::<T>());
    }

    #[test]
    fn every_field_of_the_api_is_in_the_table_and_no_other() {
        compare::<v1::Pod>(&POD);
        compare::<ObjectMeta>(&METADATA);
        compare::<v1::PodSpec>(&SPEC);
        compare::<v1::PodOS>(&OS);
        compare::<v1::Toleration>(&TOLERATION);
        compare::<v1::PodSecurityContext>(&POD_SECURITY);
        compare::<v1::SeccompProfile>(&SECCOMP);
        compare::<v1::Container>(&CONTAINER);
        compare::<v1::EnvVar>(&ENV);
        compare::<v1::ContainerPort>(&PORT);
        compare::<v1::ResourceRequirements>(&RESOURCES);
        compare::<v1::VolumeMount>(&MOUNT);
        compare::<v1::Probe>(&PROBE);
        compare::<v1::ExecAction>(&EXEC);
        compare::<v1::GRPCAction>(&GRPC);
        compare::<v1::Lifecycle>(&LIFECYCLE);
        compare::<v1::LifecycleHandler>(&LIFECYCLE_HANDLER);
        compare::<v1::SleepAction>(&SLEEP);
        compare::<v1::ContainerRestartRule>(&RESTART_RULE);
        compare::<v1::ContainerRestartRuleOnExitCodes>(&EXIT_CODES);
        compare::<v1::HTTPGetAction>(&HTTP_GET);
        compare::<v1::HTTPHeader>(&HEADER);
        compare::<v1::TCPSocketAction>(&TCP_SOCKET);
        compare::<v1::SecurityContext>(&SECURITY);
        compare::<v1::Capabilities>(&CAPABILITIES);
        compare::<v1::Volume>(&VOLUME);
        compare::<v1::EmptyDirVolumeSource>(&EMPTY_DIR);
        compare::<v1::HostPathVolumeSource>(&HOST_PATH);
    }
}
