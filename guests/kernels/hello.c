/* The least a machine can do: print, and end. */
#include "board.h"

void test(void)
{
    print("Hello from a bare machine.\n");
}
