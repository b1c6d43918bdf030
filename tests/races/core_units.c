#include "sp_reap.h"
#include "sp_wait.h"
int main(void){return 0;}
