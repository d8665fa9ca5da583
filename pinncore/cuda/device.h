// What the kernels' text needs before it on a GPU, where NVRTC compiles it.
#define WARP_BARRIER(number) __syncwarp()
#define BLOCK_BARRIER(number) __syncthreads()
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)

// Four blocks at least fit on a processor: all registers for as many, so that none is spilled.
#define ENTRY(name, threads)                                                                  \
  extern "C" __global__ void __launch_bounds__(threads, 4) name(const name##_arguments g) {   \
    extern __shared__ __align__(32) unsigned char shared[];                                   \
    name##_body(g, shared);                                                                   \
  }

