# SPDX-License-Identifier: Apache-2.0
"""Names of functions that compute a proof of work: in symbol tables and in GPU code.

Unlike a string, which every scanner's rule files contain, such a name *in these places* means that the code
is there. The names are those of the algorithms' public implementations.
"""

from __future__ import annotations

import re

#: Functions of a library or program; whole names.
FUNCTIONS: tuple[bytes, ...] = (
    # RandomX
    b"randomx_create_vm", b"randomx_init_dataset", b"randomx_calculate_hash", b"randomx_calculate_hash_first",
    b"randomx_calculate_hash_next", b"randomx_init_cache", b"randomx_vm_set_dataset", b"randomx_alloc_dataset",
    # CryptoNight
    b"cn_slow_hash", b"cryptonight_hash", b"cryptonight_ctx_init", b"cryptonight_hash_ctx", b"cn_fast_hash",
    b"cryptonight_core_cpu_hash", b"cryptonight_extra_cpu_prepare", b"cryptonight_extra_cpu_final",
    # Ethash and its kin
    b"ethash_calculate_dag_item", b"ethash_full_new", b"ethash_full_compute", b"ethash_light_compute",
    b"ethash_create_epoch_context", b"progpow_search", b"ethash_search", b"ethash_generate_dag",
    # the cpuminer family
    b"scanhash_scrypt", b"scanhash_sha256d", b"scanhash_cryptonight", b"scanhash_lyra2", b"scanhash_lyra2rev2",
    b"scanhash_x11", b"scanhash_x16r", b"scanhash_yescrypt", b"scanhash_yespower", b"scanhash_quark",
    b"scanhash_neoscrypt", b"scanhash_blake2s", b"scanhash_groestl", b"scanhash_verus", b"scanhash_argon2d",
    b"stratum_recv_line", b"stratum_subscribe", b"stratum_authorize", b"stratum_handle_method",
)  # fmt: skip

#: Kernels; what their names contain, mangled or not.
_KERNELS = re.compile(
    rb"ethash_(?:search|calculate_dag|generate_dag)|progpow|kawpow|firopow|evrprogpow"
    rb"|cryptonight_(?:core|extra)_gpu|cryptonightr_phase|cn_(?:slow|fast)_hash|randomx_(?:run|jit|vm)"
    rb"|fillaes[14]rx4|hashaes1rx4|blake2b_initial_hash"
    rb"|kheavyhash|heavy_hash|autolykos|blockminingstep|initprehash"
    rb"|(?:x11|x13|x15|x16|x17|quark|lyra2|lyra2v\d|skunk|groestl512|neoscrypt|keccak256)_\w*gpu_\w*hash"
    rb"|scanhash_|equihash|cuckatoo|cuckaroo|verushash|octopus_(?:search|compute|mine)|karlsenhash|pyrinhash|nexapow"
    rb"|beamhash|zelhash|fishhash_|abelhash",
    re.IGNORECASE,
)


def is_work_kernel(name: bytes) -> bool:
    """Is this the name of a GPU kernel that computes a proof of work?"""
    return _KERNELS.search(name) is not None
