// SPDX-License-Identifier: MIT
#include "commands.h"
#include <stdio.h>
#include <string.h>

static const char overview[] =
    "swd turns text into pictures, by scale-wise diffusion: few steps, the first ones small.\n"
    "\n"
    "  swd generate \"a red apple, 3d emoji\"              writes out.jpg, with the bundled model\n"
    "  swd generate \"a cat face\" -n 4 -o cat.png         cat-0000.png to cat-0003.png\n"
    "  swd generate \"a castle\" -m ~/sd3.5-medium --lora ~/swd-adapter\n"
    "\n"
    "commands\n"
    "  generate   pictures from prompts\n"
    "  tokenize   the ids that the text encoders get\n"
    "  encode     a picture to latents\n"
    "  decode     latents to a picture\n"
    "  info       what a model folder holds, and the memory it takes\n"
    "  presets    the schedules that are known\n"
    "  spectrum   power spectra of latents, and the schedule that they suggest\n"
    "  bench      what a model costs on this machine\n"
    "  help       this, or swd help COMMAND = swd COMMAND --help\n"
    "\n"
    "Exit status: 0 done, 1 it failed, 2 the call is wrong. swd --version prints the version.\n";

static const char generate_help[] =
    "  swd generate \"a red apple, 3d emoji\"                    one picture: out.jpg\n"
    "  swd generate \"a dog\" \"a cat\" --seed 7 -o pet-%02d.png   pet-00.png with seed 7, "
    "pet-01.png with seed 8\n"
    "  swd generate --prompts list.txt -o out/%d.jpg           one prompt a line\n"
    "  swd generate \"a dog\" --scales 4,6,8,12,16 --sigmas 1,.95,.9,.74,.6\n"
    "  swd generate \"a dog\" --sampler euler --steps 28 --guidance 4 --negative \"blurry\"\n"
    "  swd generate \"a blue car\" --init car.jpg --strength .8\n"
    "\n"
    "usage: swd generate [PROMPT...] [options]        (-- before a prompt that starts with -)\n"
    "\n"
    "what to make\n"
    "  -m, --model DIR          diffusers folder (default: the bundled model)\n"
    "      --prompts FILE       one prompt a line, verbatim; - is standard input\n"
    "  -o, --output PATH        .jpg or .png, or a pattern with %d (default out.jpg; several: "
    "out-0000.jpg, ...)\n"
    "  -n, --count N            pictures per prompt; picture j of a call uses seed + j\n"
    "      --seed N             default: random, and printed\n"
    "      --size WxH           pixels (default: the model's)\n"
    "\n"
    "how to sample\n"
    "      --sampler scalewise|euler   default: scalewise where the call, the adapter or the model "
    "brings a schedule\n"
    "      --preset NAME        a named schedule; swd presets lists them\n"
    "      --scales 4,6,8,12,16 --sigmas 1,.95,.9,.74,.6      an own schedule: latent sides and "
    "noise levels\n"
    "      --steps N --shift S  euler (default 28, 3, or what the model's swd.json says)\n"
    "      --guidance G         euler: default 4.5, or swd.json's; scale-wise: none. 1 or less: "
    "one evaluation a step\n"
    "      --negative TEXT      what guidance leads away from (default: the empty prompt)\n"
    "      --init IMAGE --strength F   start from a picture, at the first step whose noise level "
    "is at most F (default .75)\n"
    "      --rng philox|torch   torch: the noise of torch.Generator(\"cpu\").manual_seed(seed), "
    "for diffusers' picture\n"
    "\n"
    "the model\n"
    "      --lora PATH[=SCALE]  a PEFT folder or a file, merged at load; repeatable\n"
    "      --text-encoders LIST some of clip_l,clip_g,t5, or all; one left out is not loaded\n"
    "      --max-tokens N       length of the T5 prompt (default: the schedule's, else at most "
    "256)\n"
    "      --vae-tiny DIR       decode with an AutoencoderTiny\n"
    "      --precision f32|bf16 arithmetic (default: the fastest that the device does natively)\n"
    "      --device auto|cpu|cuda[:K]   --threads N   --batch N   --no-graphs (CUDA: kernels one "
    "by one)\n"
    "      --resume             leave out pictures whose file is there already\n"
    "      --embeds-cache DIR   keep embeddings of prompts there: a known prompt needs no text "
    "encoder\n"
    "\n"
    "for looking closer\n"
    "      --save-latents FILE  safetensors: latents, and x0.K of each step\n"
    "      --save-scales DIR    the decoded guess of every step\n"
    "      --no-graphs          on a GPU: launch every kernel by itself; the same picture\n"
    "      --json               files, seeds, schedule, milliseconds by stage and peak memory, as "
    "one object\n";

static const char tokenize_help[] =
    "  swd tokenize \"a red apple\"\n"
    "  swd tokenize --prompts list.txt -m ~/sd3.5-medium      one JSON object a line\n"
    "\n"
    "usage: swd tokenize [-m DIR] [--max-tokens N] PROMPT | --prompts FILE\n"
    "Prints {\"tokenizer\": [...], \"tokenizer_2\": [...], \"tokenizer_3\": [...]}: ids with "
    "padding, as the encoders get them.\n"
    "Needs only the tokenizer folders that are there.\n";

static const char encode_help[] =
    "  swd encode photo.png -o photo.safetensors\n"
    "\n"
    "usage: swd encode [-m DIR] IMAGE -o FILE [--precision f32|bf16] [--threads N]\n"
    "Writes \"latents\" = (mean - shift) * scaling, F32 [1, C, h, w].\n";

static const char decode_help[] =
    "  swd decode photo.safetensors -o photo.png\n"
    "\n"
    "usage: swd decode [-m DIR] FILE -o IMAGE [--vae-tiny DIR] [--precision f32|bf16] [--threads "
    "N]\n"
    "Reads \"latents\", F32 [B, C, h, w]; more than one becomes photo-0000.png, ...\n";

static const char info_help[] =
    "  swd info\n"
    "  swd info -m ~/sd3.5-medium --json\n"
    "  swd info -m ~/sd3.5-medium --device cuda\n"
    "\n"
    "usage: swd info [-m DIR] [--lora PATH] [--device auto|cpu|cuda[:K]] [--json]\n"
    "Reads configurations and file headers only; with --device the networks are loaded there, and "
    "what they and a picture\n"
    "take is measured.\n";

static const char presets_help[] =
    "  swd presets\n"
    "  swd presets -m ~/sd3.5-medium --lora ~/swd-adapter     with those of the model and the "
    "adapter, * marks the default\n"
    "\n"
    "usage: swd presets [-m DIR] [--lora PATH] [--json]\n"
    "Each schedule: latent sides, noise levels, and its cost in steps at the last size.\n";

static const char spectrum_help[] =
    "  swd spectrum pictures/                                 the table, and a schedule\n"
    "  swd spectrum pictures/ -o spectrum                     spectrum.json, .csv and .svg as "
    "well\n"
    "  swd spectrum pictures/ -m ~/sd3.5-medium --sigmas 1,.95,.9,.79,.74,.6\n"
    "  swd spectrum pictures/ -m ~/sd3.5-medium --scales 32,64,96,128 --write swd.json\n"
    "  swd spectrum latents.safetensors --scale-multiple 16\n"
    "\n"
    "usage: swd spectrum FOLDER|FILE... [-m DIR] [-o NAME] [--write SWD.JSON] [--json]\n"
    "Pictures (.jpg, .png: the middle square, resized) are encoded by the model's autoencoder; "
    ".safetensors hold \"latents\".\n"
    "Their power is averaged over rings of equal frequency; noise of level sigma masks the "
    "frequencies where\n"
    "(1 - sigma)^2 P < sigma^2, and a side s of R holds those up to 0.5 s / R. docs/evaluation.md "
    "says more.\n"
    "\n"
    "      --sigmas 1,.95,...   propose a side for each noise level (default: SD3.5-medium's six)\n"
    "      --scales 4,6,...     propose a noise level for each latent side; the last is the "
    "model's\n"
    "      --scale-multiple N   proposed sides are multiples of it (default: an eighth of the "
    "side)\n"
    "      --scale-min N        and not smaller (default: a quarter)\n"
    "      --size WxW           pixels that pictures are resized to (default: the model's)\n"
    "  -o, --output NAME        write NAME.json, NAME.csv and NAME.svg\n"
    "      --write FILE         put the schedule into this swd.json as the preset \"spectrum\", "
    "its "
    "default\n"
    "      --device auto|cpu|cuda[:K]   --threads N   --precision f32|bf16\n";

static const char bench_help[] =
    "  swd bench e2e                                 the bundled model: scale-wise beside full "
    "resolution\n"
    "  swd bench e2e --arch sd3.5-medium --size 512 --steps 2,6 --text-encoders clip_l,clip_g\n"
    "  swd bench step -m ~/sd3.5-medium --size 512,1024 --precision bf16 -o step.json\n"
    "  swd bench step -m ~/sd3.5-medium --size 512,1024 --precision bf16 --baseline step.json\n"
    "  swd bench compare --python /venv/bin/python --script bench/peers/diffusers_peer.py\n"
    "\n"
    "usage: swd bench WHAT [options]\n"
    "  ops         each op of a step and of a decoding, by shape\n"
    "  step        an evaluation of the transformer\n"
    "  vae         the autoencoder, both ways\n"
    "  text        each text encoder\n"
    "  e2e         pictures by scales, beside 2, 4, 6 and 28 steps at full resolution with and "
    "without guidance\n"
    "  throughput  pictures a second, by batch\n"
    "  compare     the same work by programs that are installed here\n"
    "\n"
    "the model\n"
    "  -m, --model DIR          diffusers folder (default: the bundled model), with --lora, "
    "--vae-tiny, --text-encoders\n"
    "      --arch NAME          a published shape with random weights in memory, no files: "
    "sd3.5-medium, sd3.5-large,\n"
    "                           sd3-medium, demo, ...\n"
    "      --device auto|cpu|cuda[:K]   --threads N   --precision f32|bf16   --no-graphs\n"
    "\n"
    "the work\n"
    "      --size LIST          sides in pixels, like 512,1024 (default: the model's; for its "
    "parts a quarter, half and all)\n"
    "      --batch LIST         pictures at once (default 1; throughput 1,2,4)\n"
    "      --steps LIST         at full resolution (default 2,4,6,28; compare 28)   --guidance G "
    "(default 4.5; 1: none)\n"
    "      --preset LIST        schedules (default: the family's), or --scales and --sigmas\n"
    "      --max-tokens N       length of the T5 prompt\n"
    "      --filter TEXT        only cases whose name holds it\n"
    "\n"
    "how to measure, and what to show\n"
    "      --time-box S         seconds a case is measured for (default 2); one that takes ten "
    "times as long runs once\n"
    "      --runs N             fewest runs of every case   --quick: one, to see that it works\n"
    "  -o, --output FILE        the JSON document, schema 1 (docs/benchmarks.md); --json: on "
    "standard output\n"
    "      --baseline FILE      beside an earlier document: changes beyond the noise are marked\n"
    "      --markdown           tables in markdown, with seconds by size\n"
    "      --plot FILE.svg      e2e: a bar per way to a picture; several sizes: FILE-sizes.svg "
    "too\n"
    "\n"
    "compare\n"
    "      --python P --script FILE           diffusers (bench/peers/diffusers_peer.py); "
    "--processes: from start to file, too\n"
    "      --sd-cli P --sd-weights FILE       stable-diffusion.cpp, of its transformer's file "
    "(bench/peers/sdcpp_weights.py);\n"
    "                                         --sd-type T (f16)\n";

void help_print(const char *command)
{
    static const struct {
        const char *name, *text;
    } pages[] = {{"generate", generate_help}, {"tokenize", tokenize_help},
                 {"encode", encode_help},     {"decode", decode_help},
                 {"info", info_help},         {"presets", presets_help},
                 {"spectrum", spectrum_help}, {"bench", bench_help}};
    const char *text = overview;
    for (size_t i = 0; command && i < sizeof(pages) / sizeof(pages[0]); i++)
        if (strcmp(command, pages[i].name) == 0) text = pages[i].text;
    fputs(text, stdout);
}
