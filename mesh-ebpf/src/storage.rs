//! Socket storage: what is kept in a socket's own storage lives and dies with the socket, and no process
//! but the agent can write it.

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use core::ffi::c_void;
use core::ptr::{self, NonNull};

#[inline(always)]
fn raw<T>(map: &'static SkStorage<T>) -> *mut c_void {
    ptr::from_ref(map).cast_mut().cast()
}

/// What `map` has for a socket, if anything.
///
/// # Safety
/// `sk` is the socket of the program's context, and not null. The value is that of one connection, which
/// nobody writes while this program runs for it.
#[inline(always)]
pub(crate) unsafe fn get<'a, T: Copy>(
    map: &'static SkStorage<T>,
    sk: *mut bpf_sock,
) -> Option<&'a T> {
    // SAFETY: upheld by the caller; no value is given, so nothing is created.
    let found = unsafe { bpf_sk_storage_get(raw(map), sk.cast(), ptr::null_mut(), 0) };
    // SAFETY: the storage holds a `T` and outlives the program's run.
    NonNull::new(found.cast::<T>()).map(|value| unsafe { value.as_ref() })
}

/// Sets what `map` has for a socket; false when there was no memory for it.
///
/// # Safety
/// As for [`get`].
#[inline(always)]
pub(crate) unsafe fn set<T: Copy>(
    map: &'static SkStorage<T>,
    sk: *mut bpf_sock,
    value: &T,
) -> bool {
    let mut copy = *value;
    let copy = ptr::from_mut(&mut copy).cast();
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: upheld by the caller; `copy` is a `T` on the stack.
    let found = unsafe { bpf_sk_storage_get(raw(map), sk.cast(), copy, flags) };
    let Some(stored) = NonNull::new(found.cast::<T>()) else {
        return false;
    };
    // An older value is returned as it was: write in any case.
    // SAFETY: the storage holds a `T` and outlives the program's run.
    unsafe { *stored.as_ptr() = *value };
    true
}

/// Removes what an earlier connect of the same socket left.
///
/// # Safety
/// As for [`get`].
#[inline(always)]
pub(crate) unsafe fn clear<T>(map: &'static SkStorage<T>, sk: *mut bpf_sock) {
    // SAFETY: upheld by the caller. That there was nothing to delete is no error.
    let _ = unsafe { bpf_sk_storage_delete(raw(map), sk.cast()) };
}
