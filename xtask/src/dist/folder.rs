//! The folder that the C libraries are laid out in.

use std::path::{Path, PathBuf};

/// A folder with `include`, `lib`, `lib/pkgconfig` and `lib/cmake`, for one target.
pub struct Dist {
    root: PathBuf,
    shared_name: &'static str,
}

impl Dist {
    /// The folder of that name; the shared library's file has the other one.
    pub fn new(root: PathBuf, shared_name: &'static str) -> Dist {
        Dist { root, shared_name }
    }

    /// The folder that holds all the others.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the header.
    pub fn include(&self) -> PathBuf {
        self.root.join("include")
    }

    /// The folder of the libraries.
    pub fn lib(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// The static library.
    pub fn static_library(&self) -> PathBuf {
        self.lib().join("libexecmem.a")
    }

    /// The shared library, under the name that linkers look for.
    pub fn shared_library(&self) -> PathBuf {
        self.lib().join(self.shared_name)
    }

    /// The folder that CMake finds by itself below a prefix that it is told about.
    pub fn cmake_folder(&self) -> PathBuf {
        self.lib().join("cmake/execmem")
    }

    /// The folder that pkg-config has to be told about.
    pub fn pkg_config_folder(&self) -> PathBuf {
        self.lib().join("pkgconfig")
    }
}
