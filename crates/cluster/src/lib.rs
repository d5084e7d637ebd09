//! Every decision of the cluster, pure: metadata image, controller, configuration registry.
