//! What QEMU says of the machine: its command line, its archive of files, its cores.

use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// The parts of the device tree that the tests need.
pub struct DeviceTree {
    tree: Fdt<'static>,
    /// Where it lies in memory.
    pub range: Range<usize>,
}

impl DeviceTree {
    /// The tree at an address. Raw images get it in x0; others get 0.
    ///
    /// # Safety
    /// There is a device tree, mapped, and nobody changes it.
    pub unsafe fn at(address: u64) -> Self {
        assert_ne!(address, 0, "QEMU passes a device tree to raw images only");
        let start = core::ptr::with_exposed_provenance(address as usize);
        // SAFETY: the caller's promise, passed on.
        let tree = unsafe { Fdt::from_raw(start) }.expect("a device tree");
        let range = address as usize..address as usize + tree.data().len();
        Self { tree, range }
    }

    /// What stands behind QEMU's option `-append`.
    pub fn command_line(&self) -> &'static str {
        let arguments = self.chosen().property("bootargs");
        arguments.and_then(|property| property.value_as::<&str>().ok()).unwrap_or_default()
    }

    /// Where QEMU's option `-initrd` put the file.
    pub fn archive(&self) -> Range<usize> {
        self.address("linux,initrd-start")..self.address("linux,initrd-end")
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        let cpus = self.tree.find_node("/cpus").expect("a machine has processors");
        cpus.children().filter(|node| node.name().starts_with("cpu@")).count()
    }

    fn chosen(&self) -> FdtNode<'static> {
        self.tree.find_node("/chosen").expect("QEMU says how it was started")
    }

    /// Four or eight bytes, as QEMU sees fit.
    fn address(&self, name: &str) -> usize {
        let property = self.chosen().property(name).expect("QEMU was given -initrd");
        property.value().iter().fold(0, |address, byte| address << 8 | usize::from(*byte))
    }
}
