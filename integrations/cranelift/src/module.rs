//! The module: what is defined, linked, published, freed.

use crate::data::{Pool, REACH};
use crate::relocate::{relocate, room_for_veneers};
use crate::symbols::Symbols;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{self, LibCall};
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable, Flags};
use cranelift_codegen::{CodegenError, Context};
use cranelift_module::{
    DataDescription, DataId, FuncId, Init, Linkage, Module, ModuleDeclarations, ModuleError, ModuleReloc,
    ModuleRelocTarget, ModuleResult, default_libcall_names,
};
use execmem::{Entry, Function, Hardening, Protection, Reserved, runtime};
use std::collections::HashMap;
use std::io;

/// Compiled code whose type the module does not know: [`Entry::cast`] gives it one.
pub type Code = unsafe extern "C" fn();

/// The code heap aligns functions to so many bytes.
const ALIGNMENT: u64 = 64;

/// A Cranelift module whose functions are blocks of the process's code heap. All are freed when it is dropped.
pub struct HeapModule {
    isa: OwnedTargetIsa,
    declarations: ModuleDeclarations,
    libcall_names: Box<dyn Fn(LibCall) -> String + Send + Sync>,
    symbols: Symbols,
    functions: HashMap<FuncId, Defined>,
    data: HashMap<DataId, Data>,
    /// Defined since the last finalization, in that order.
    pending: Vec<FuncId>,
    pending_data: Vec<DataId>,
    constants: Pool,
    variables: Pool,
    /// What all else lies near.
    anchor: Option<usize>,
}

enum Defined {
    Pending { place: Reserved<Code>, bytes: Vec<u8>, relocs: Vec<ModuleReloc> },
    Published(Function<Code>),
}

/// Whether indirect branches into the code heap must find landing pads.
fn asks_for_landing_pads() -> bool {
    runtime().hardening().contains(Hardening::BTI)
}

/// Refuses code without landing pads where all must have them.
pub fn check_landing_pads(has_them: bool) -> ModuleResult<()> {
    match has_them || !asks_for_landing_pads() {
        true => Ok(()),
        false => Err(backend("use_bti must be true: the process is hardened so".to_owned())),
    }
}

impl Defined {
    fn address(&self) -> usize {
        match self {
            Self::Pending { place, .. } => place.address(),
            Self::Published(function) => function.address(),
        }
    }
}

struct Data {
    address: usize,
    size: usize,
    relocs: Vec<ModuleReloc>,
    is_final: bool,
}

impl Data {
    /// Its bytes before it is final.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the pool gave these bytes to this object alone, zeroed and readable as long as the module lives. Who
        // writes there is the module, which is borrowed: nobody else has the address before the object is final.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.address), self.size) }
    }
}

/// Fills an object that is not final.
fn write_data(address: usize, bytes: &[u8]) {
    let target = std::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: the pool gave this object as many bytes, which are read-write until they are sealed, and nobody has been
    // given their address before the object is final.
    unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

impl HeapModule {
    /// A module for code of this processor.
    pub fn for_host() -> ModuleResult<Self> {
        let mut flags = settings::builder();
        // Library functions may be anywhere.
        flags.set("use_colocated_libcalls", "false")?;
        flags.set("is_pic", "false")?;
        let mut isa = cranelift_native::builder().map_err(|reason| backend(reason.to_owned()))?;
        if asks_for_landing_pads() {
            isa.enable("use_bti")?;
        }
        Self::new(isa.finish(Flags::new(flags)).map_err(ModuleError::Compilation)?)
    }

    /// A module for code of a given kind, which this processor must be able to execute. It is not
    /// position-independent: there is no table of addresses that it could go by.
    pub fn new(isa: OwnedTargetIsa) -> ModuleResult<Self> {
        if isa.flags().is_pic() {
            return Err(backend("is_pic must be false".to_owned()));
        }
        check_landing_pads(isa.is_branch_protection_enabled())?;
        Ok(Self {
            isa,
            declarations: ModuleDeclarations::default(),
            libcall_names: default_libcall_names(),
            symbols: Symbols::default(),
            functions: HashMap::new(),
            data: HashMap::new(),
            pending: Vec::new(),
            pending_data: Vec::new(),
            constants: Pool::new(Protection::READ),
            variables: Pool::new(Protection::RW),
            anchor: None,
        })
    }

    /// Says where an imported function or object is.
    pub fn symbol(&mut self, name: impl Into<String>, address: *const u8) -> &mut Self {
        self.symbols.insert(name.into(), address.expose_provenance());
        self
    }

    /// Looks imports up that no [`symbol`](Self::symbol) was given for, before this process's own are asked. The one
    /// that was added last comes first.
    pub fn symbol_lookup(
        &mut self,
        lookup: impl Fn(&str) -> Option<*const u8> + Send + 'static,
    ) -> &mut Self {
        self.symbols.add_lookup(Box::new(move |name| lookup(name).map(<*const u8>::expose_provenance)));
        self
    }

    /// Links, writes and publishes all that was defined since the last time. If something can't be resolved or reached
    /// nothing has changed, and the missing symbol can be given. If memory refuses, the functions that were to be
    /// published are gone, and can be defined again.
    pub fn finalize_definitions(&mut self) -> ModuleResult<()> {
        let mut code = Vec::with_capacity(self.pending.len());
        for id in &self.pending {
            if let Some(Defined::Pending { place, bytes, relocs }) = self.functions.get(id) {
                code.push((*id, self.linked(bytes.clone(), place.address(), relocs)?));
            }
        }
        let mut objects = Vec::with_capacity(self.pending_data.len());
        for data in self.pending_data.iter().filter_map(|id| self.data.get(id)) {
            objects.push((data.address, self.linked(data.bytes().to_vec(), data.address, &data.relocs)?));
        }
        for (address, bytes) in objects {
            write_data(address, &bytes);
        }
        self.constants.finish(|_, _| Ok(())).map_err(|err| ModuleError::Allocation { err })?;
        for id in std::mem::take(&mut self.pending_data) {
            self.data.entry(id).and_modify(|data| data.is_final = true);
        }
        self.pending.clear();

        let (mut ids, mut written) = (Vec::with_capacity(code.len()), Vec::with_capacity(code.len()));
        for (id, bytes) in code {
            if let Some(Defined::Pending { place, .. }) = self.functions.remove(&id) {
                written.push(place.write(&bytes).map_err(memory)?);
                ids.push(id);
            }
        }
        let published = execmem::publish_all(written).map_err(memory)?;
        self.functions.extend(ids.into_iter().zip(published.map(Defined::Published)));
        Ok(())
    }

    /// A function that was finalized. It can't be kept longer than the module stays as it is; who has to keep it takes
    /// [`get_finalized_function`](Self::get_finalized_function).
    pub fn entry(&self, id: FuncId) -> Option<Entry<'_, Code>> {
        match self.functions.get(&id)? {
            Defined::Published(function) => Some(function.entry()),
            Defined::Pending { .. } => None,
        }
    }

    /// The address of a function, until it or the module is freed.
    ///
    /// # Panics
    /// If it was not defined and finalized.
    pub fn get_finalized_function(&self, id: FuncId) -> *const u8 {
        self.entry(id).expect("the function is finalized").as_raw() as *const u8
    }

    /// The address and the size of a data object, until the module is freed.
    ///
    /// # Panics
    /// If it was not defined and finalized.
    pub fn get_finalized_data(&self, id: DataId) -> (*const u8, usize) {
        let data = self.data.get(&id).filter(|data| data.is_final).expect("the object is finalized");
        (std::ptr::with_exposed_provenance(data.address), data.size)
    }

    /// Frees one function, if it is defined. Its name can be defined anew: what refers to it and is finalized later
    /// gets the new one.
    ///
    /// # Safety
    /// Nobody executes it or will call it, also no other code of the module.
    pub unsafe fn free_function(&mut self, id: FuncId) -> bool {
        self.pending.retain(|pending| *pending != id);
        self.functions.remove(&id).is_some()
    }

    fn linked(&self, mut bytes: Vec<u8>, base: usize, relocs: &[ModuleReloc]) -> ModuleResult<Vec<u8>> {
        for reloc in relocs {
            let target = self.address_of(&reloc.name)?.wrapping_add_signed(reloc.addend as isize);
            relocate(&mut bytes, base, reloc.kind, reloc.offset as usize, target).map_err(backend)?;
        }
        Ok(bytes)
    }

    fn address_of(&self, target: &ModuleRelocTarget) -> ModuleResult<usize> {
        let (name, linkage) = match target {
            ModuleRelocTarget::User { .. } if ModuleDeclarations::is_function(target) => {
                let id = FuncId::from_name(target);
                if let Some(function) = self.functions.get(&id) {
                    return Ok(function.address());
                }
                let declared = self.declarations.get_function_decl(id);
                (declared.linkage_name(id), declared.linkage)
            }
            ModuleRelocTarget::User { .. } => {
                let id = DataId::from_name(target);
                if let Some(data) = self.data.get(&id) {
                    return Ok(data.address);
                }
                let declared = self.declarations.get_data_decl(id);
                (declared.linkage_name(id), declared.linkage)
            }
            ModuleRelocTarget::FunctionOffset(id, offset) => {
                let function = self.functions.get(id).ok_or_else(|| backend(format!("no code of {id}")))?;
                return Ok(function.address() + *offset as usize);
            }
            ModuleRelocTarget::LibCall(call) => ((self.libcall_names)(*call).into(), Linkage::Import),
            other => return Err(backend(format!("{other} is not known"))),
        };
        match self.symbols.find(&name) {
            Some(address) => Ok(address),
            None if linkage == Linkage::Preemptible => Ok(0),
            None => Err(backend(format!("can't resolve symbol {name}"))),
        }
    }

    fn define(&mut self, id: FuncId, align: u64, bytes: &[u8], relocs: Vec<ModuleReloc>) -> ModuleResult<()> {
        if align > ALIGNMENT {
            return Err(backend(format!("the code heap aligns to {ALIGNMENT} bytes, not to {align}")));
        }
        let size = bytes.len() + room_for_veneers(bytes.len(), relocs.iter().map(|reloc| reloc.kind));
        let place = match self.anchor {
            None => Function::reserve(size),
            Some(anchor) => Function::reserve_near(size, anchor, REACH),
        }
        .map_err(memory)?;
        self.anchor.get_or_insert(place.address());
        self.functions.insert(id, Defined::Pending { place, bytes: bytes.to_vec(), relocs });
        self.pending.push(id);
        Ok(())
    }

    fn check_definable(&self, id: FuncId) -> ModuleResult<()> {
        let declared = self.declarations.get_function_decl(id);
        check(declared.linkage, self.functions.contains_key(&id), || declared.linkage_name(id).into_owned())
    }
}

impl Module for HeapModule {
    fn isa(&self) -> &dyn TargetIsa {
        &*self.isa
    }

    fn declarations(&self) -> &ModuleDeclarations {
        &self.declarations
    }

    fn declare_function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: &ir::Signature,
    ) -> ModuleResult<FuncId> {
        self.declarations.declare_function(name, linkage, signature).map(|(id, _)| id)
    }

    fn declare_anonymous_function(&mut self, signature: &ir::Signature) -> ModuleResult<FuncId> {
        self.declarations.declare_anonymous_function(signature)
    }

    fn declare_data(
        &mut self,
        name: &str,
        linkage: Linkage,
        writable: bool,
        tls: bool,
    ) -> ModuleResult<DataId> {
        refuse_tls(tls)?;
        self.declarations.declare_data(name, linkage, writable, tls).map(|(id, _)| id)
    }

    fn declare_anonymous_data(&mut self, writable: bool, tls: bool) -> ModuleResult<DataId> {
        refuse_tls(tls)?;
        self.declarations.declare_anonymous_data(writable, tls)
    }

    fn define_function_with_control_plane(
        &mut self,
        id: FuncId,
        context: &mut Context,
        plane: &mut ControlPlane,
    ) -> ModuleResult<()> {
        self.check_definable(id)?;
        context.compile(&*self.isa, plane)?;
        let code = context.compiled_code().ok_or_else(|| backend("nothing was compiled".to_owned()))?;
        let wanted = u64::from(code.buffer.alignment).max(self.isa.symbol_alignment());
        let relocs = code.buffer.relocs().iter();
        let relocs = relocs.map(|reloc| ModuleReloc::from_mach_reloc(reloc, &context.func, id)).collect();
        let bytes = code.code_buffer().to_vec();
        self.define(id, wanted.max(self.isa.function_alignment().minimum.into()), &bytes, relocs)
    }

    fn define_function_bytes(
        &mut self,
        id: FuncId,
        align: u64,
        bytes: &[u8],
        relocs: &[ModuleReloc],
    ) -> ModuleResult<()> {
        self.check_definable(id)?;
        self.define(id, align, bytes, relocs.to_owned())
    }

    fn define_data(&mut self, id: DataId, data: &DataDescription) -> ModuleResult<()> {
        let declared = self.declarations.get_data_decl(id);
        check(declared.linkage, self.data.contains_key(&id), || declared.linkage_name(id).into_owned())?;
        // An empty object has an address of its own, too.
        let size = match &data.init {
            Init::Uninitialized => return Err(backend("the object is not initialized".to_owned())),
            init => init.size().max(1),
        };
        let (pool, least) =
            if declared.writable { (&mut self.variables, 8) } else { (&mut self.constants, 1) };
        let align = data.align.unwrap_or(least) as usize;
        let address = pool.alloc(size, align, self.anchor).map_err(|kind| memory(kind.into()))?;
        self.anchor.get_or_insert(address);
        if let Init::Bytes { contents } = &data.init {
            write_data(address, contents);
        }
        let relocs = data.all_relocs(Reloc::Abs8).collect();
        self.data.insert(id, Data { address, size, relocs, is_final: false });
        self.pending_data.push(id);
        Ok(())
    }
}

/// Whether something may be defined now.
fn check(linkage: Linkage, is_defined: bool, name: impl FnOnce() -> String) -> ModuleResult<()> {
    match (linkage.is_definable(), is_defined) {
        (false, _) => Err(ModuleError::InvalidImportDefinition(name())),
        (true, true) => Err(ModuleError::DuplicateDefinition(name())),
        (true, false) => Ok(()),
    }
}

fn refuse_tls(tls: bool) -> ModuleResult<()> {
    let refused = || CodegenError::Unsupported("thread-local storage".to_owned());
    if tls { Err(ModuleError::Compilation(refused())) } else { Ok(()) }
}

fn backend(reason: String) -> ModuleError {
    ModuleError::Backend(anyhow::Error::msg(reason))
}

fn memory(error: execmem::Error) -> ModuleError {
    ModuleError::Allocation { err: io::Error::other(error) }
}
