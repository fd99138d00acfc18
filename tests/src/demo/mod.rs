//! The demo: the mesh at work on real applications, and the evidence.
