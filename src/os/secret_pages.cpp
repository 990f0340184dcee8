#include "os/secret_pages.hpp"

#include <sys/mman.h>
#include <unistd.h>

namespace curvegate::os {
namespace {

constexpr std::size_t kPages = 4;

std::size_t page_size() noexcept {
    static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return size;
}

class GuardedPages final : public SecretPages {
  public:
    std::optional<Chunk> take() override {
        const std::size_t page = page_size();
        const std::size_t size = kPages * page;
        void* mapped = ::mmap(nullptr, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) return std::nullopt;
        Byte* const data = static_cast<Byte*>(mapped) + page;
        const bool usable =
            ::mprotect(data, size, PROT_READ | PROT_WRITE) == 0 && ::madvise(data, size, MADV_DONTDUMP) == 0;
        if (!usable) {
            ::munmap(mapped, size + 2 * page);
            return std::nullopt;
        }
        return Chunk{{data, size}, ::mlock(data, size) == 0};
    }

    void give(MutableBytes bytes) noexcept override {
        ::munmap(bytes.data() - page_size(), bytes.size() + 2 * page_size());
    }
};

}  // namespace

SecretPages& secret_pages() noexcept {
    static GuardedPages pages;
    return pages;
}

}  // namespace curvegate::os
