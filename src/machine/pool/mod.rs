//! The life of one pool's workers, transport unseen.

pub mod seam;
