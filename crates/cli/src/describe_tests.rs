use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-23T12:01:00Z".parse().unwrap()
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u-1", "labels": {"app": "web", "tier": "front"},
                     "annotations": {"podwright.dev/sidecar-start-gate": "Started"}, "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {
            "nodeName": "edge-1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
            "initContainers": [
                {"name": "prepare", "image": "busybox", "command": ["sh", "-c", "true\nexit 0"]},
                {"name": "proxy", "image": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 8080}],
                 "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                 "readinessProbe": {"httpGet": {"port": "http", "path": "/ready", "scheme": "HTTP"}}},
            ],
            "containers": [
                {"name": "app", "image": "busybox", "args": ["serve"], "env": [{"name": "MODE", "value": "live"}],
                 "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                 "volumeMounts": [{"name": "data", "mountPath": "/data"},
                                  {"name": "etc", "mountPath": "/etc/app", "readOnly": true, "subPath": "app"}]},
            ],
            "volumes": [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                        {"name": "etc", "hostPath": {"path": "/srv/etc", "type": "Directory"}}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.2", "startTime": "2026-11-23T12:00:00Z", "qosClass": "Burstable",
            "conditions": [{"type": "PodScheduled", "status": "True"},
                           {"type": "Ready", "status": "False", "reason": "ContainersNotReady",
                            "message": "containers with unready status: [app]"}],
            "initContainerStatuses": [
                {"name": "prepare", "ready": true, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": "2026-11-23T12:00:01Z",
                                          "finishedAt": "2026-11-23T12:00:02Z"}}},
                {"name": "proxy", "ready": true, "started": true, "restartCount": 0,
                 "state": {"running": {"startedAt": "2026-11-23T12:00:03Z"}}},
            ],
            "containerStatuses": [
                {"name": "app", "ready": false, "started": false, "restartCount": 2, "containerID": "podwright://u-1-app-2",
                 "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}},
                 "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": "2026-11-23T12:00:04Z",
                                              "finishedAt": "2026-11-23T12:00:05Z"}}},
            ],
        },
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "the text that is expected")]
fn a_pod_with_all_kinds_of_containers() {
    let events = [json!({"type": "Warning", "reason": "BackOff", "count": 3, "message": "Back-off restarting",
                         "firstTimestamp": "2026-11-23T12:00:06Z", "lastTimestamp": "2026-11-23T12:00:50Z",
                         "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{app}"}})];
    insta::assert_snapshot!(describe(&pod(), &events, now(), Style::Plain), @r#"
        Name:             web
        Namespace:        default
        UID:              u-1
        Node:             edge-1
        Start Time:       Mon, 23 Nov 2026 12:00:00 +0000
        Labels:           app=web
                          tier=front
        Annotations:      podwright.dev/sidecar-start-gate: Started
        Status:           Running
        IP:               10.0.0.2
        Restart Policy:   Always
        Grace Period:     30s
        Init Containers:
          prepare:
            Image:            busybox
            Command:
              sh
              -c
              true
              exit 0
            State:            Terminated
              Reason:         Completed
              Exit Code:      0
              Started:        Mon, 23 Nov 2026 12:00:01 +0000
              Finished:       Mon, 23 Nov 2026 12:00:02 +0000
            Ready:            True
            Restart Count:    0
          proxy (sidecar):
            Image:            proxy
            Port:             8080/TCP
            State:            Running
              Started:        Mon, 23 Nov 2026 12:00:03 +0000
            Ready:            True
            Started:          True
            Restart Count:    0
            Startup:          tcp-socket :8080 delay=0s timeout=1s period=1s #success=1 #failure=3
            Readiness:        http-get http://:http/ready delay=0s timeout=1s period=10s #success=1 #failure=3
        Containers:
          app:
            Container ID:     podwright://u-1-app-2
            Image:            busybox
            Args:
              serve
            State:            Waiting
              Reason:         CrashLoopBackOff
              Message:        back-off 20s restarting failed container
            Last State:       Terminated
              Reason:         OOMKilled
              Exit Code:      137
              Started:        Mon, 23 Nov 2026 12:00:04 +0000
              Finished:       Mon, 23 Nov 2026 12:00:05 +0000
            Ready:            False
            Restart Count:    2
            Limits:
              cpu: 500m
              memory: 64Mi
            Environment:
              MODE: live
            Mounts:
              /data from data (rw)
              /etc/app from etc (ro,path="app")
        Conditions:
          Type          Status  Reason
          PodScheduled  True
          Ready         False   ContainersNotReady: containers with unready status: [app]
        Volumes:
          data:
            Type:         EmptyDir (a directory with the pod's lifetime)
            Medium:       Memory
            SizeLimit:    1Mi
          etc:
            Type:         HostPath (of the host)
            Path:         /srv/etc
            HostPathType: Directory
        QoS Class:        Burstable
        Events:
          Type      Reason    Age                 Container   Message
          Warning   BackOff   10s (x3 over 54s)   app         Back-off restarting
        "#);
}

#[test]
fn removal_and_failure_are_told() {
    let mut pod = json!({"metadata": {"name": "a", "namespace": "b", "uid": "c", "deletionTimestamp": "2026-11-23T12:00:50Z",
                                      "deletionGracePeriodSeconds": 5},
                         "spec": {"containers": [{"name": "x", "image": "y"}]}, "status": {"phase": "Running"}});
    let text = describe(&pod, &[], now(), Style::Plain).to_string();
    assert!(
        text.contains("Status:           Terminating (its grace period ended 10s ago)\nTermination Grace Period: 5s\n"),
        "{text}"
    );
    assert!(text.contains("State:            Waiting\n"), "{text}");
    assert!(text.ends_with("Events:           <none>\n"), "{text}");
    pod["status"] = json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"});
    pod["metadata"]["annotations"] = json!({ENDED_AT: "2026-11-23T12:00:55Z"});
    let text = describe(&pod, &[], now(), Style::Coloured).to_string();
    let expected = "Status:           \x1b[31mFailed\x1b[0m (removed 5s ago; kept for reading)\nReason:           DeadlineExceeded\n";
    assert!(text.contains(expected), "{text}");
}
