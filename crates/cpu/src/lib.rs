//! The processor: state, paging, soft TLB, interpreter, exceptions, CPUID.
