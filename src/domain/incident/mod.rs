//! An incident from first suspicion to closing report.
