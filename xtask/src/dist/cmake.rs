//! What CMake's `find_package(execmem)` reads.

use super::folder::Dist;
use crate::project::write;
use crate::result::Result;

/// Writes the package's files. The folder can be moved anywhere: paths start from where they lie.
pub fn write_package(dist: &Dist) -> Result<()> {
    let shared = dist.shared_library();
    let shared = shared.file_name().unwrap_or_default().to_string_lossy();
    write(&dist.cmake_folder().join("execmem-config.cmake"), &CONFIG.replace("@SHARED@", &shared))?;
    let version = VERSION.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    write(&dist.cmake_folder().join("execmem-config-version.cmake"), &version)
}

const CONFIG: &str = "\
# execmem::static and execmem::shared are the libraries, execmem::execmem the shared one where it is there.
get_filename_component(_execmem_prefix \"${CMAKE_CURRENT_LIST_DIR}/../../..\" ABSOLUTE)

foreach(_execmem_kind static shared)
  set(_execmem_file \"${_execmem_prefix}/lib/libexecmem.a\")
  if(_execmem_kind STREQUAL shared)
    set(_execmem_file \"${_execmem_prefix}/lib/@SHARED@\")
  endif()
  if(EXISTS \"${_execmem_file}\" AND NOT TARGET execmem::${_execmem_kind})
    string(TOUPPER ${_execmem_kind} _execmem_type)
    add_library(execmem::${_execmem_kind} ${_execmem_type} IMPORTED)
    set_target_properties(execmem::${_execmem_kind} PROPERTIES
      IMPORTED_LOCATION \"${_execmem_file}\"
      INTERFACE_INCLUDE_DIRECTORIES \"${_execmem_prefix}/include\")
  endif()
endforeach()

if(NOT TARGET execmem::execmem)
  add_library(execmem::execmem INTERFACE IMPORTED)
  if(TARGET execmem::shared)
    set_target_properties(execmem::execmem PROPERTIES INTERFACE_LINK_LIBRARIES execmem::shared)
  else()
    set_target_properties(execmem::execmem PROPERTIES INTERFACE_LINK_LIBRARIES execmem::static)
  endif()
endif()

unset(_execmem_prefix)
unset(_execmem_file)
unset(_execmem_type)
";

/// Before 1.0 a new minor version may be a different interface.
const VERSION: &str = "\
set(PACKAGE_VERSION \"@VERSION@\")
string(REGEX MATCH \"^[0-9]+\\\\.[0-9]+\" _execmem_series \"${PACKAGE_VERSION}\")
string(REGEX MATCH \"^[0-9]+\\\\.[0-9]+\" _execmem_wanted \"${PACKAGE_FIND_VERSION}\")
set(PACKAGE_VERSION_COMPATIBLE FALSE)
if(_execmem_wanted STREQUAL _execmem_series AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION_RANGE)
  # Who names an upper end has looked at what lies between.
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
  if(NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION_MIN
     AND (PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION_MAX
          OR (PACKAGE_FIND_VERSION_RANGE_MAX STREQUAL \"INCLUDE\" AND PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION_MAX)))
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
  endif()
elseif(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
# The libraries are of 64-bit systems.
if(CMAKE_SIZEOF_VOID_P AND NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
";
