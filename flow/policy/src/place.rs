//! Places in the text of the user.

/// A place in one of the files of a [`crate::Document`]: small enough to keep beside every value that may have to be
/// pointed at later. The default one is the start of the first file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    pub(crate) file: u32,
    /// Bytes from the start of the file.
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Place {
    /// Which of the files, as [`crate::Sources::files`] has them.
    pub fn file_index(self) -> usize {
        usize::try_from(self.file).unwrap_or(usize::MAX)
    }

    pub(crate) const fn file(file: u32) -> Self {
        Self { file, start: 0, end: 0 }
    }
}
