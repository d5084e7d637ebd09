//! The metadata quorum: the committed metadata log and the controller's driver.
