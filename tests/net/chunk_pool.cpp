#include "io/chunk_pool.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <set>

namespace curvegate::io {
namespace {

constexpr std::size_t kChunk = ChunkPool::kChunk;

std::size_t resident_pages(Byte* chunk) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> pages(kChunk / page);
    REQUIRE(::mincore(chunk, kChunk, pages.data()) == 0);
    return static_cast<std::size_t>(
        std::ranges::count_if(pages, [](unsigned char in) { return (in & 1) != 0; }));
}

TEST_CASE("chunks of a pool are whole and apart", "[net][chunk_pool]") {
    ChunkPool pool;
    std::vector<Byte*> chunks;
    for (std::size_t i = 0; i < 100; ++i) {
        chunks.push_back(pool.take());
        std::fill_n(chunks.back(), kChunk, static_cast<Byte>(i));
    }
    CHECK(std::set<Byte*>(chunks.begin(), chunks.end()).size() == 100);
    for (std::size_t i = 0; i < 100; ++i)
        CHECK(std::all_of(chunks[i], chunks[i] + kChunk, [&](Byte byte) { return byte == i; }));
    for (Byte* chunk : chunks) pool.give(chunk);
}

TEST_CASE("the chunk that came back last goes out first", "[net][chunk_pool]") {
    ChunkPool pool;
    Byte* one = pool.take();
    Byte* other = pool.take();
    pool.give(one);
    CHECK(pool.take() == one);
    pool.give(other);
    pool.give(one);
    CHECK(pool.take() == one);
    CHECK(pool.take() == other);
    pool.give(one);
    pool.give(other);
}

TEST_CASE("a pool keeps few chunks warm and gives the memory of the rest back", "[net][chunk_pool]") {
    ChunkPool pool;
    std::vector<Byte*> chunks;
    for (std::size_t i = 0; i < 2 * ChunkPool::kMostWarm; ++i) {
        chunks.push_back(pool.take());
        chunks.back()[0] = 1;
        chunks.back()[kChunk - 1] = 1;
        CHECK(resident_pages(chunks.back()) == 2);
    }
    for (Byte* chunk : chunks) pool.give(chunk);
    std::size_t resident = 0;
    for (Byte* chunk : chunks) resident += resident_pages(chunk);
    CHECK(resident == 2 * ChunkPool::kMostWarm);
}

}  // namespace
}  // namespace curvegate::io
