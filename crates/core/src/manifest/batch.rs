//! The fields of a `batch/v1` Job and CronJob: data for [`super::schema`].

use super::schema::{LARGE, Object, Type};
use super::table::{METADATA, SPEC, done, later, never, no_effect, required, server};

/// From 0 on.
const COUNT: Type = Type::Integer(0, LARGE);
/// Longer ones overflow a clock of 64-bit nanoseconds.
const SECONDS: Type = Type::Integer(0, 9_000_000_000);
const SELECTOR: &str = "a job's pods belong to it by its uid, not by their labels; remove it";

pub(super) static JOB: Object = Object {
    fields: &[
        required("apiVersion", Type::String),
        required("kind", Type::String),
        required("metadata", Type::Object(&METADATA)),
        required("spec", Type::Object(&JOB_SPEC)),
        server("status"),
    ],
};

pub(super) static JOB_SPEC: Object = Object {
    fields: &[
        required("template", Type::Object(&TEMPLATE)),
        done("completions", COUNT),
        done("parallelism", COUNT),
        done("completionMode", Type::Word(&["NonIndexed", "Indexed"], &[])),
        done("backoffLimit", COUNT),
        done("backoffLimitPerIndex", COUNT),
        done("maxFailedIndexes", COUNT),
        done("activeDeadlineSeconds", SECONDS),
        done("ttlSecondsAfterFinished", SECONDS),
        done("suspend", Type::Bool),
        done("podFailurePolicy", Type::Object(&FAILURE_POLICY)),
        done("successPolicy", Type::Object(&SUCCESS_POLICY)),
        done("podReplacementPolicy", Type::Word(&["TerminatingOrFailed", "Failed"], &[])),
        never("selector", SELECTOR),
        never("manualSelector", SELECTOR),
        later("managedBy", "podwright itself runs every job; remove it"),
    ],
};

pub(super) static TEMPLATE: Object =
    Object { fields: &[done("metadata", Type::Object(&TEMPLATE_METADATA)), required("spec", Type::Object(&SPEC))] };

const NAMED: &str = "pods are named after their job";

pub(super) static TEMPLATE_METADATA: Object = Object {
    fields: &[
        done("labels", Type::Strings),
        done("annotations", Type::Strings),
        no_effect("name", Type::String, NAMED),
        no_effect("namespace", Type::String, "pods are in the namespace of their job"),
        later("generateName", NAMED),
        later("finalizers", "remove it"),
        later("ownerReferences", "remove it"),
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

pub(super) static FAILURE_POLICY: Object =
    Object { fields: &[required("rules", Type::List(&Type::Object(&FAILURE_RULE)))] };

pub(super) static FAILURE_RULE: Object = Object {
    fields: &[
        required("action", Type::Word(&["FailJob", "FailIndex", "Ignore", "Count"], &[])),
        done("onExitCodes", Type::Object(&ON_EXIT_CODES)),
        done("onPodConditions", Type::List(&Type::Object(&ON_POD_CONDITION))),
    ],
};

pub(super) static ON_EXIT_CODES: Object = Object {
    fields: &[
        done("containerName", Type::String),
        required("operator", Type::Word(&["In", "NotIn"], &[])),
        required("values", Type::List(&Type::Integer(0, 255))),
    ],
};

pub(super) static ON_POD_CONDITION: Object = Object {
    fields: &[required("type", Type::String), done("status", Type::Word(&["True", "False", "Unknown"], &[]))],
};

pub(super) static SUCCESS_POLICY: Object =
    Object { fields: &[required("rules", Type::List(&Type::Object(&SUCCESS_RULE)))] };

pub(super) static SUCCESS_RULE: Object =
    Object { fields: &[done("succeededIndexes", Type::String), done("succeededCount", Type::Integer(1, LARGE))] };

pub(super) static CRON_JOB: Object = Object {
    fields: &[
        required("apiVersion", Type::String),
        required("kind", Type::String),
        required("metadata", Type::Object(&METADATA)),
        required("spec", Type::Object(&CRON_SPEC)),
        server("status"),
    ],
};

pub(super) static CRON_SPEC: Object = Object {
    fields: &[
        required("schedule", Type::String),
        required("jobTemplate", Type::Object(&JOB_TEMPLATE)),
        done("timeZone", Type::String),
        done("concurrencyPolicy", Type::Word(&["Allow", "Forbid", "Replace"], &[])),
        done("startingDeadlineSeconds", SECONDS),
        done("suspend", Type::Bool),
        done("successfulJobsHistoryLimit", COUNT),
        done("failedJobsHistoryLimit", COUNT),
    ],
};

pub(super) static JOB_TEMPLATE: Object =
    Object { fields: &[done("metadata", Type::Object(&TEMPLATE_METADATA)), required("spec", Type::Object(&JOB_SPEC))] };

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1 as batch;
    use k8s_openapi::api::core::v1::PodTemplateSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::super::table::tests::compare;
    use super::*;

    #[test]
    fn every_field_of_the_api_is_in_the_table_and_no_other() {
        compare::<batch::Job>(&JOB);
        compare::<batch::JobSpec>(&JOB_SPEC);
        compare::<PodTemplateSpec>(&TEMPLATE);
        compare::<ObjectMeta>(&TEMPLATE_METADATA);
        compare::<batch::PodFailurePolicy>(&FAILURE_POLICY);
        compare::<batch::PodFailurePolicyRule>(&FAILURE_RULE);
        compare::<batch::PodFailurePolicyOnExitCodesRequirement>(&ON_EXIT_CODES);
        compare::<batch::PodFailurePolicyOnPodConditionsPattern>(&ON_POD_CONDITION);
        compare::<batch::SuccessPolicy>(&SUCCESS_POLICY);
        compare::<batch::SuccessPolicyRule>(&SUCCESS_RULE);
        compare::<batch::CronJob>(&CRON_JOB);
        compare::<batch::CronJobSpec>(&CRON_SPEC);
        compare::<batch::JobTemplateSpec>(&JOB_TEMPLATE);
    }
}
