/* Drives a virtio disk without an operating system (virtio 1.1, 3.1.1, 4.2 and 5.2): reads it, runs what is in it if that is
 * code, writes all of it unless it is read-only, and reads it back. Prints sums, so that what was read is seen. A machine
 * without a disk in the first slot says so. */
#include "board.h"

enum {
    MAGIC = 0x74726976,
    BLOCK_DEVICE = 2,
    QUEUE_SIZE = 4,
    NEXT = 1,
    WRITE = 2,
    READ_ONLY = 1 << 5,
    READ_SECTORS = 0,
    WRITE_SECTORS = 1,
    GET_ID = 8,
    PIECE = 16384,
    SECTOR = 512,
};

enum {
    DEVICE_ID = 0x08,
    DEVICE_FEATURES = 0x10,
    DRIVER_FEATURES = 0x20,
    DRIVER_FEATURES_SELECT = 0x24,
    QUEUE_NUM = 0x38,
    QUEUE_READY = 0x44,
    QUEUE_NOTIFY = 0x50,
    STATUS = 0x70,
    DESCRIPTORS = 0x80,
    AVAILABLE = 0x90,
    USED = 0xa0,
    CAPACITY = 0x100,
};

static struct {
    uint64_t at;
    uint32_t bytes;
    uint16_t flags, next;
} descriptors[QUEUE_SIZE] __attribute__((aligned(16)));
static struct {
    uint16_t flags, index, ring[QUEUE_SIZE], event;
} available __attribute__((aligned(4)));
static volatile struct {
    uint16_t flags, index;
    struct {
        uint32_t id, bytes;
    } ring[QUEUE_SIZE];
    uint16_t event;
} used __attribute__((aligned(4)));
static struct {
    uint32_t type, reserved;
    uint64_t sector;
} request;
static uint8_t status, data[PIECE];

static volatile uint32_t *reg(uint32_t offset)
{
    return (volatile uint32_t *)(0xd0000000 + offset);
}

static void set_up(void)
{
    *reg(STATUS) = 0;
    *reg(STATUS) = 3;
    *reg(DRIVER_FEATURES_SELECT) = 1;
    *reg(DRIVER_FEATURES) = 1;
    *reg(STATUS) = 11;
    check_equal("features", *reg(STATUS), 11);
    *reg(QUEUE_NUM) = QUEUE_SIZE;
    *reg(DESCRIPTORS) = (uint32_t)descriptors;
    *reg(AVAILABLE) = (uint32_t)&available;
    *reg(USED) = (uint32_t)&used;
    *reg(QUEUE_READY) = 1;
    *reg(STATUS) = 15;
    check_equal("ready", *reg(STATUS), 15);
}

/* Asks for `bytes` of data from `sector` on; waits for the answer. */
static uint8_t ask(uint32_t type, uint32_t sector, uint32_t bytes)
{
    request.type = type;
    request.sector = sector;
    status = 0xff;
    descriptors[0].at = (uint32_t)&request;
    descriptors[0].bytes = sizeof request;
    descriptors[0].flags = NEXT;
    descriptors[0].next = 1;
    descriptors[1].at = (uint32_t)data;
    descriptors[1].bytes = bytes;
    descriptors[1].flags = NEXT | (type == WRITE_SECTORS ? 0 : WRITE);
    descriptors[1].next = 2;
    descriptors[2].at = (uint32_t)&status;
    descriptors[2].bytes = 1;
    descriptors[2].flags = WRITE;
    available.ring[available.index % QUEUE_SIZE] = 0;
    __asm__ volatile("" : : : "memory");
    available.index++;
    *reg(QUEUE_NOTIFY) = 0;
    while (used.index != available.index)
        ;
    __asm__ volatile("" : : : "memory");
    return status;
}

/* The sum of all bytes of the disk, each weighed by its place. */
static uint32_t sum(uint32_t sectors)
{
    uint32_t total = 0;
    for (uint32_t sector = 0; sector < sectors; sector += PIECE / SECTOR) {
        uint32_t left = (sectors - sector) * SECTOR;
        uint32_t bytes = left < PIECE ? left : PIECE;
        check_equal("read", ask(READ_SECTORS, sector, bytes), 0);
        for (uint32_t i = 0; i < bytes; i++)
            total = total * 31 + data[i];
    }
    return total;
}

static void fill(uint32_t sectors)
{
    for (uint32_t sector = 0; sector < sectors; sector++) {
        for (uint32_t i = 0; i < SECTOR; i++)
            data[i] = sector * 7 + i;
        check_equal("write", ask(WRITE_SECTORS, sector, SECTOR), 0);
    }
}

/* Runs what is in the first two sectors, if it is code, twice each from the same place: what a disk writes into memory is
 * what runs next. */
static void run_code(void)
{
    for (unsigned i = 0; i < 4; i++) {
        check_equal("read", ask(READ_SECTORS, i % 2, SECTOR), 0);
        if (data[0] != 0xb8 || data[5] != 0xc3)
            return;
        print_hex("code", ((uint32_t (*)(void))data)());
    }
}

void test(void)
{
    if (*reg(0) != MAGIC || *reg(DEVICE_ID) != BLOCK_DEVICE) {
        print("no disk\n");
        return;
    }
    set_up();
    uint32_t sectors = *reg(CAPACITY);
    print_hex("sectors", sectors);
    check_equal("id", ask(GET_ID, 0, 20), 0);
    data[20] = 0;
    print((char *)data);
    print("\n");
    run_code();
    print_hex("sum", sum(sectors));
    if (*reg(DEVICE_FEATURES) & READ_ONLY) {
        check_equal("write to a read-only disk", ask(WRITE_SECTORS, 0, SECTOR), 1);
        print("read-only\n");
    } else {
        fill(sectors);
        print_hex("sum after writing", sum(sectors));
    }
    check_equal("read behind the end", ask(READ_SECTORS, sectors, SECTOR), 1);
}
