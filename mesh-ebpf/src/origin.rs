//! A socket's [`Origin`], in the socket's own storage: it lives and dies with the socket, and no
//! process but the agent can write it.

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use mesh_common::abi::Origin;

use crate::maps::ORIGIN;

#[inline(always)]
fn map() -> *mut c_void {
    ptr::from_ref(&ORIGIN).cast_mut().cast()
}

/// The origin of a socket, if it has one.
///
/// # Safety
/// `sk` is the socket of the program's context, and not null.
#[inline(always)]
pub(crate) unsafe fn get(sk: *mut bpf_sock) -> Option<Origin> {
    // SAFETY: upheld by the caller; no value is given, so nothing is created.
    let found = unsafe { bpf_sk_storage_get(map(), sk.cast(), ptr::null_mut(), 0) };
    // SAFETY: the storage holds an `Origin` and outlives the program's run.
    NonNull::new(found.cast::<Origin>()).map(|origin| unsafe { *origin.as_ptr() })
}

/// Sets the origin of a socket; false when there was no memory for it.
///
/// # Safety
/// As for [`get`].
#[inline(always)]
pub(crate) unsafe fn set(sk: *mut bpf_sock, origin: &Origin) -> bool {
    let mut value = *origin;
    let value = ptr::from_mut(&mut value).cast();
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: upheld by the caller; `value` is an `Origin` on the stack.
    let found = unsafe { bpf_sk_storage_get(map(), sk.cast(), value, flags) };
    let Some(stored) = NonNull::new(found.cast::<Origin>()) else {
        return false;
    };
    // An older value is returned as it was: write in any case.
    // SAFETY: the storage holds an `Origin` and outlives the program's run.
    unsafe { *stored.as_ptr() = *origin };
    true
}

/// Removes what an earlier connect of the same socket left.
///
/// # Safety
/// As for [`get`].
#[inline(always)]
pub(crate) unsafe fn clear(sk: *mut bpf_sock) {
    // SAFETY: upheld by the caller. That there was nothing to delete is no error.
    let _ = unsafe { bpf_sk_storage_delete(map(), sk.cast()) };
}
